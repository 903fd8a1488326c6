package engine

import "testing"

func autoDepth() depth { return newDepth(&Config{Pipeline: PipelineAuto}) }

func TestDepthIsEarned(t *testing.T) {
	d := autoDepth()
	var seen []int
	for range 40 {
		if len(seen) == 0 || seen[len(seen)-1] != d.current {
			seen = append(seen, d.current)
		}
		d.answered(1)
	}
	want := []int{1, 2, 4, 8, 16}
	if len(seen) != len(want) {
		t.Fatalf("depths %v, want %v", seen, want)
	}
	for i := range want {
		if seen[i] != want[i] {
			t.Fatalf("depths %v, want %v", seen, want)
		}
	}
}

func TestDepthIsLost(t *testing.T) {
	d := newDepth(&Config{Pipeline: 32})
	if d.current != 32 {
		t.Fatalf("a depth that was asked for begins at %d, want 32", d.current)
	}
	d.cut()
	if d.current != 16 {
		t.Errorf("after a close with requests unanswered: %d, want 16", d.current)
	}
	d.answered(0)
	if d.current != 1 {
		t.Errorf("after an HTTP/1.0 answer: %d, want 1", d.current)
	}
	d.answered(1)
	if d.current != 2 {
		t.Errorf("after a clean answer: %d, want 2", d.current)
	}
}

func TestDepthStopsWhereAnswersComeOneByOne(t *testing.T) {
	d := autoDepth()
	for i := range 200 {
		if i%d.current == 0 {
			d.measured(0, 5_000_000)
		} else {
			d.measured(int64(i%d.current)*5_000_000, 5_000_000)
		}
		d.answered(1)
	}
	if d.current > 8 {
		t.Errorf("depth %d against a server that takes 5 ms each, one after the other", d.current)
	}
}

func TestKeepAliveLimitIsLearnt(t *testing.T) {
	d := autoDepth()
	if d.announced(1000) || d.bound() != 0 {
		t.Error("one close at 1000 is no limit yet")
	}
	if d.announced(1000) {
		t.Error("the second was not expected either")
	}
	if d.bound() != 1000 {
		t.Errorf("bound %d, want 1000", d.bound())
	}
	if !d.announced(1000) {
		t.Error("now it is expected")
	}
	free := 0
	for range 10 * retestEvery {
		if d.bound() == 0 {
			free++
		}
	}
	if free != 10 {
		t.Errorf("%d of %d connections re-test the limit, want 10", free, 10*retestEvery)
	}
	d.outlived(1000)
	if d.bound() != 0 {
		t.Error("a limit that was outlived is still respected")
	}
}

func TestKeepAliveLimitThatShrinks(t *testing.T) {
	d := autoDepth()
	d.announced(1000)
	d.announced(1000)
	d.announced(100)
	if d.limit != 0 {
		t.Errorf("limit %d after a close at 100", d.limit)
	}
	d.announced(100)
	if d.limit != 100 {
		t.Errorf("limit %d, want 100", d.limit)
	}
}
