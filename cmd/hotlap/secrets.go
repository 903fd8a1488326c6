package main

import (
	"regexp"
	"strings"
)

const hidden = "***"

var (
	userinfo     = regexp.MustCompile(`://[^/?#\s]*@`)
	secretHeader = regexp.MustCompile(`(?i)(auth|cookie|token|key|secret|password|session)`)
)

// withoutUser hides the user and password of the URLs in a text.
func withoutUser(s string) string { return userinfo.ReplaceAllString(s, "://"+hidden+"@") }

// secretFlags are the flags whose values may be secret, by their short names.
var secretFlags = map[string]string{"--user": "u", "--header": "H", "--body": "b", "--proxy": "proxy"}

// withoutSecrets copies a command line without its credentials: users and
// passwords, the values of headers that carry such, and bodies.
func withoutSecrets(args []string) []string {
	clean := make([]string, len(args))
	flag := "" // whose value comes next
	for i, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		switch {
		case flag != "":
			clean[i], flag = hide(flag, arg), ""
		case strings.HasPrefix(arg, "--"):
			clean[i] = withoutUser(arg)
			if ok && secretFlags[name] != "" {
				clean[i] = name + "=" + hide(secretFlags[name], value)
			}
			if !ok {
				flag = secretFlags[name]
			}
		case strings.HasPrefix(arg, "-"):
			clean[i], flag = withoutShort(arg)
		default:
			clean[i] = withoutUser(arg)
		}
	}
	return clean
}

// switches are the short flags without a value, which others may follow.
const switches = "k46h"

// withoutShort hides what is secret in an argument of short flags. It returns
// the flag whose secret value is the next argument.
func withoutShort(arg string) (clean, flag string) {
	at := 1
	for at < len(arg) && strings.Contains(switches, arg[at:at+1]) {
		at++
	}
	if at == len(arg) || !strings.Contains("uHb", arg[at:at+1]) {
		return withoutUser(arg), ""
	}
	flag = arg[at : at+1]
	if at++; at == len(arg) {
		return arg, flag
	}
	if arg[at] == '=' {
		at++
	}
	return arg[:at] + hide(flag, arg[at:]), ""
}

// hide hides what is secret in the value of a flag.
func hide(flag, value string) string {
	switch flag {
	case "u":
		return hidden
	case "b":
		if strings.HasPrefix(value, "@") {
			return value
		}
		return hidden
	case "H":
		if name, _, ok := strings.Cut(value, ":"); ok && secretHeader.MatchString(name) {
			return name + ": " + hidden
		}
	case "proxy":
		if at := strings.LastIndexByte(value, '@'); at >= 0 && !strings.Contains(value, "://") {
			return hidden + value[at:]
		}
	}
	return withoutUser(value)
}
