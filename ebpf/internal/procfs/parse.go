package procfs

import "bytes"

// The parsers take a whole file and add what they know of it to a Counters.
// They skip what they do not understand: another kernel may write more. What
// is not there stays absent.

// parsePairs reads snmp and netstat: two lines for each group, first its name
// and the names of its fields, then its name and their values.
func parsePairs(c *Counters, from source, b []byte) {
	for len(b) > 0 {
		var names, values []byte
		names, b = line(b)
		values, b = line(b)
		group, names, ok := bytes.Cut(names, []byte(":"))
		if !ok || !bytes.HasPrefix(values, group) || len(values) == len(group) {
			continue
		}
		fields := byField[from][string(group)]
		if fields == nil {
			continue
		}
		values = values[len(group)+1:]
		var name, value []byte
		for {
			name, names = word(names)
			value, values = word(values)
			if len(name) == 0 || len(value) == 0 {
				break
			}
			k, known := fields[string(name)]
			if v, ok := decimal(value); ok && known {
				c.Set(k, v)
			}
		}
	}
}

// parseSockstat reads lines of a group and then names and values in turn.
func parseSockstat(c *Counters, b []byte) {
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		group, l, _ := bytes.Cut(l, []byte(":"))
		fields := byField[fromSockstat][string(group)]
		for len(l) > 0 && fields != nil {
			var name, value []byte
			name, l = word(l)
			value, l = word(l)
			k, known := fields[string(name)]
			if v, ok := decimal(value); ok && known {
				c.Set(k, v)
			}
		}
	}
}

// parseSoftnet reads a line of hexadecimal columns for each CPU.
func parseSoftnet(c *Counters, b []byte) {
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		for column := 0; len(l) > 0; column++ {
			var value []byte
			value, l = word(l)
			k, known := softnetColumn(column)
			if v, ok := hexadecimal(value); ok && known {
				c.add(k, v)
			}
		}
	}
}

func softnetColumn(n int) (Counter, bool) {
	for _, k := range [...]Counter{SoftnetDropped, SoftnetTimeSqueeze, SoftnetFlowLimit} {
		if definitions[k].column == n {
			return k, true
		}
	}
	return 0, false
}

// parseDevices reads a line for each device, after two of headings.
func parseDevices(c *Counters, b []byte) {
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		// A device's name may itself contain a colon ("eth0:1"), and no blank.
		end := bytes.LastIndexByte(l, ':')
		if end < 0 {
			continue // a heading
		}
		l = l[end+1:]
		for column := 0; len(l) > 0; column++ {
			var value []byte
			value, l = word(l)
			k, known := deviceColumn(column)
			if v, ok := decimal(value); ok && known {
				c.add(k, v)
			}
		}
	}
}

func deviceColumn(n int) (Counter, bool) {
	for k := DeviceRxErrors; k <= DeviceTxFIFO; k++ {
		if definitions[k].column == n {
			return k, true
		}
	}
	return 0, false
}

// parseConntrack reads a line of names, then a hexadecimal line for each CPU.
// The number of entries is the table's, and the same in every line.
func parseConntrack(c *Counters, b []byte) {
	names, b := line(b)
	fields := byField[fromConntrack][""]
	for len(b) > 0 {
		var l []byte
		l, b = line(b)
		for rest := names; len(l) > 0 && len(rest) > 0; {
			var name, value []byte
			name, rest = word(rest)
			value, l = word(l)
			k, known := fields[string(name)]
			v, ok := hexadecimal(value)
			switch {
			case !ok || !known:
			case definitions[k].kind == gauge:
				c.Set(k, v)
			default:
				c.add(k, v)
			}
		}
	}
}

func line(b []byte) (l, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

func word(b []byte) (w, rest []byte) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	n := 0
	for n < len(b) && b[n] != ' ' && b[n] != '\t' {
		n++
	}
	return b[:n], b[n:]
}

// decimal refuses signs: MaxConn is -1, and none of ours.
func decimal(b []byte) (v uint64, ok bool) {
	const most = (1<<64 - 1) / 10
	for _, d := range b {
		if d < '0' || d > '9' || v > most || v*10 > v*10+uint64(d-'0') {
			return 0, false
		}
		v = v*10 + uint64(d-'0')
	}
	return v, len(b) > 0
}

func hexadecimal(b []byte) (v uint64, ok bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	for _, d := range b {
		switch {
		case d >= '0' && d <= '9':
			d -= '0'
		case d >= 'a' && d <= 'f':
			d -= 'a' - 10
		case d >= 'A' && d <= 'F':
			d -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | uint64(d)
	}
	return v, true
}
