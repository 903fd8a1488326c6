package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// verifyFile checks the output of a whole run: a benchmark of wrong answers
// measures nothing.
func verifyFile(path string, n int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(verify(f, n), f.Close())
}

// outputLine is what is looked at in a line of results.
type outputLine struct {
	ID     json.RawMessage `json:"id"` // a number or a string, both hold the line number
	Status int             `json:"status"`
	Body   string          `json:"body"`
	Error  json.RawMessage `json:"error"`
}

// verify reads n results in any order: each id from 1 to n exactly once,
// status 200, the body the path of that line.
func verify(r io.Reader, n int) error {
	seen := make([]bool, n+1)
	count := 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var l outputLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("line %d: %w", count+1, err)
		}
		id, err := l.number()
		switch {
		case err != nil:
			return fmt.Errorf("line %d: %w", count+1, err)
		case id < 1 || id > n:
			return fmt.Errorf("line %d: id %d was not asked for", count+1, id)
		case seen[id]:
			return fmt.Errorf("line %d: id %d a second time", count+1, id)
		case l.Status != 200 || l.Error != nil:
			return fmt.Errorf("id %d: status %d, error %s", id, l.Status, l.Error)
		case l.Body != pathOf(id):
			return fmt.Errorf("id %d has the body %q, want %q", id, l.Body, pathOf(id))
		}
		seen[id] = true
		count++
	}
	if count != n {
		return errors.Join(fmt.Errorf("%d results, want %d", count, n), lines.Err())
	}
	return lines.Err()
}

func (l *outputLine) number() (int, error) {
	text := string(l.ID)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	id, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("id %s is no line number", l.ID)
	}
	return id, nil
}
