package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"hotlap/engine"
)

// One request: Do is for when the answer decides what comes next.
func ExampleEngine_Do() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s from %s", r.Method, r.URL.Path, r.Header.Get("User-Agent"))
	}))
	defer server.Close()

	e, err := engine.New(engine.Config{
		KeepBody: true, // else bodies are counted and dropped
		Header:   []engine.Field{{Name: "User-Agent", Value: "example/1"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	resp, err := e.Do(context.Background(), &engine.Request{URL: server.URL + "/hello"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.Status, string(resp.Body))
	// Output: 200 GET /hello from example/1
}

// requests is a Source: a list of requests.
type requests []*engine.Request

// Next gives what is there and never waits to fill the batch. The end may come
// with the last requests.
func (r *requests) Next(_ context.Context, batch []*engine.Request) (int, error) {
	n := copy(batch, *r)
	*r = (*r)[n:]
	if len(*r) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// pages is a Sink: it keeps each body by its URL's place in the list.
type pages struct{ bodies []string }

// Put copies what it keeps: a result is valid until Put returns.
func (p *pages) Put(results []*engine.Result) error {
	for _, r := range results {
		if r.Err != nil {
			return r.Err // ends the run; to go on, note it and return nil
		}
		p.bodies[r.Request.Tag.(int)] = string(r.Body)
	}
	return nil
}

// Many requests: Run takes them from a Source as fast as it can send them, and
// gives a Sink one Result for each, in order of completion.
func ExampleEngine_Run() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "this is %s", r.URL.Path)
	}))
	defer server.Close()

	var source requests
	for i, path := range []string{"/one", "/two", "/three"} {
		source = append(source, &engine.Request{URL: server.URL + path, Tag: i})
	}
	sink := &pages{bodies: make([]string, len(source))}

	e, err := engine.New(engine.Config{KeepBody: true, Retries: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	stats, err := e.Run(context.Background(), &source, sink)
	if err != nil {
		log.Fatal(err)
	}
	for _, body := range sink.bodies {
		fmt.Println(body)
	}
	fmt.Println(stats.Responses, "responses,", stats.Failed(), "errors")
	// Output:
	// this is /one
	// this is /two
	// this is /three
	// 3 responses, 0 errors
}

// A source that makes requests as they are asked for, and a sink that counts:
// plain functions do.
func ExampleSourceFunc() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("n") == "7" {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()

	e, err := engine.New(engine.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	next, last := 0, 1000
	source := engine.SourceFunc(func(_ context.Context, batch []*engine.Request) (int, error) {
		n := min(len(batch), last-next)
		for i := range n {
			batch[i] = &engine.Request{URL: fmt.Sprintf("%s/?n=%d", server.URL, next+i)}
		}
		next += n
		if next == last {
			return n, io.EOF
		}
		return n, nil
	})
	var statuses [1000]int
	sink := engine.SinkFunc(func(results []*engine.Result) error {
		for _, r := range results {
			statuses[r.Status]++ // 0 where no response head arrived
		}
		return nil
	})
	if _, err := e.Run(context.Background(), source, sink); err != nil {
		log.Fatal(err)
	}
	fmt.Println(statuses[200], "x 200,", statuses[418], "x 418")
	// Output: 999 x 200, 1 x 418
}

// Errors carry a kind, which errors.Is matches, and a phase: how far the
// request had come. A status such as 404 is a response, not an error.
func ExampleError() {
	quit := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-quit
		case "/cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler) // closes the connection in the middle of the body
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	defer close(quit)

	e, err := engine.New(engine.Config{KeepBody: true})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	for _, request := range []engine.Request{
		{URL: server.URL + "/missing"}, {URL: server.URL + "/slow", Timeout: 100 * time.Millisecond}, {URL: server.URL + "/cut"},
		{URL: "127.0.0.1/"},
	} {
		resp, err := e.Do(context.Background(), &request)
		var failed *engine.Error
		switch {
		case err == nil:
			fmt.Println("status", resp.Status)
		case errors.Is(err, engine.Timeout):
			fmt.Println("too slow")
		case errors.Is(err, engine.InvalidRequest), errors.Is(err, engine.Unsupported):
			fmt.Println("not sent:", err)
		case errors.As(err, &failed) && resp != nil: // a head came, the body is not complete
			fmt.Printf("%s in phase %s: status %d, %d bytes came\n", failed.Kind, failed.Phase, resp.Status, resp.Bytes)
		default:
			fmt.Println(err)
		}
	}
	// Output:
	// status 404
	// too slow
	// closed in phase body: status 200, 4 bytes came
	// not sent: invalid_request (queue): URL "127.0.0.1/" has no scheme: write http://...
}

// A context ends a request, or a run.
func ExampleEngine_Do_canceled() {
	quit := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-quit }))
	defer server.Close()
	defer close(quit)

	e, err := engine.New(engine.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = e.Do(ctx, &engine.Request{URL: server.URL})
	fmt.Println(errors.Is(err, engine.Canceled), errors.Is(err, context.DeadlineExceeded))
	// Output: true true
}

// Response heads are kept on request.
func ExampleResponse_Fields() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
	}))
	defer server.Close()

	e, err := engine.New(engine.Config{KeepHead: true})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()

	resp, err := e.Do(context.Background(), &engine.Request{URL: server.URL})
	if err != nil {
		log.Fatal(err)
	}
	var cookies []string
	for name, value := range resp.Fields() {
		if string(name) == "Set-Cookie" {
			cookies = append(cookies, string(value))
		}
	}
	slices.Sort(cookies)
	fmt.Println(cookies, resp.Header("content-length"))
	// Output: [a=1 b=2] 0
}
