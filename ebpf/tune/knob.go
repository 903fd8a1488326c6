package tune

// Scope is whose setting a knob is.
type Scope string

const (
	Namespace Scope = "namespace" // of one network namespace
	Host      Scope = "host"      // of the machine, with all its namespaces
)

// Confidence is how sure an advice is.
type Confidence string

const (
	Measured   Confidence = "measured here"    // by an experiment that tune verify repeats, or by a test here
	Documented Confidence = "documented"       // by the kernel's documentation or source
	Refuted    Confidence = "folklore refuted" // widely repeated, and measured to be wrong
)

// A Knob is one entry of the table Knobs. To add a knob is to add an entry.
type Knob struct {
	Name       string // of the sysctl: "net.core.somaxconn"
	Scope      Scope
	Confidence Confidence
	Why        string // what it does for a load
	Risk       string // what changing it may cost
	// Leave: the advice is to leave it as it is. Why says why, and nothing here
	// ever writes it.
	Leave bool
	// First is a knob that must be written before this one, or "".
	First string
	// Need is what a load needs of it on a machine that has it. It is pure; nil for
	// a knob that is left.
	Need func(l Load, m *Machine) Need
}

// Need is what a load needs of a knob.
type Need struct {
	Want string // the value, or "" where the present one will do
	Why  string // in this case, or "" where the knob's Why says it all
}

// Find finds a knob by its name. The name may lack its beginning ("somaxconn").
func Find(name string) (*Knob, bool) {
	for i := range Knobs {
		k := &Knobs[i]
		if k.Name == name || len(k.Name) > len(name) && k.Name[len(k.Name)-len(name)-1:] == "."+name {
			return k, true
		}
	}
	return nil, false
}
