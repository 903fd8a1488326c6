package engine

import "time"

// Stats counts what a run, or an engine, has done so far. Every request is
// counted once, in Responses or in Errors (a request whose head arrived and
// whose body failed is in Errors).
type Stats struct {
	Requests  int64           // taken from sources
	Responses int64           // ended with a complete response, whatever its status
	Status    [6]int64        // Responses by class: Status[2] counts 2xx
	Errors    [NumKinds]int64 // ended with an error, by kind
	Retries   int64           // further attempts that were charged to a request
	Replays   int64           // sent again at no charge: a close they could not have caused
	BytesIn   int64           // body bytes received
	Connects  int64           // connections opened (whole engine)
	InFlight  int64           // inside the engine now
	Elapsed   time.Duration   // since the start of the run
}

// Failed is the number of requests that ended with an error.
func (s *Stats) Failed() int64 {
	var n int64
	for _, e := range s.Errors {
		n += e
	}
	return n
}
