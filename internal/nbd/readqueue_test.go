package nbd

import (
	"sync"
	"testing"
	"time"
)

// TestReadQueueReachesItsLimit checks that requests that block do not hold up others,
// up to the limit, and that nothing is lost.
func TestReadQueueReachesItsLimit(t *testing.T) {
	const limit, requests = 8, 500
	entered, gate := make(chan struct{}, requests), make(chan struct{})
	var mu sync.Mutex
	seen := make(map[*request]int)
	q := newReadQueue(limit, func(r *request) {
		entered <- struct{}{}
		<-gate
		mu.Lock()
		defer mu.Unlock()
		seen[r]++
	})
	for range requests {
		q.push(new(request))
	}
	for i := range limit {
		select {
		case <-entered:
		case <-time.After(2 * time.Minute):
			t.Fatalf("only %d requests are being served", i)
		}
	}
	if n := len(entered); n > 0 {
		t.Errorf("%d more than the limit are being served", n)
	}
	close(gate)
	q.close()
	q.wait()
	if len(seen) != requests {
		t.Errorf("%d of %d requests were served", len(seen), requests)
	}
	for _, n := range seen {
		if n != 1 {
			t.Errorf("a request was served %d times", n)
		}
	}
}

// TestReadQueueServesWhatComesOneByOne checks that no wake-up is lost between a
// goroutine's going idle and the next request.
func TestReadQueueServesWhatComesOneByOne(t *testing.T) {
	served := make(chan *request)
	q := newReadQueue(3, func(r *request) { served <- r })
	for range 5000 {
		r := new(request)
		q.push(r)
		select {
		case got := <-served:
			if got != r {
				t.Fatal("another request was served")
			}
		case <-time.After(2 * time.Minute):
			t.Fatal("a request is left in the queue")
		}
	}
	q.close()
	q.wait()
}

// TestReadQueueDoesNotGrowUnderSteadyLoad keeps the queue from ever being empty.
func TestReadQueueDoesNotGrowUnderSteadyLoad(t *testing.T) {
	tickets := make(chan struct{})
	q := newReadQueue(1, func(*request) { <-tickets })
	q.push(new(request))
	for range 10_000 {
		q.push(new(request))
		tickets <- struct{}{}
	}
	q.mu.Lock()
	if c := cap(q.queue); c > 64 {
		t.Errorf("the queue has room for %d, for two that wait", c)
	}
	q.mu.Unlock()
	close(tickets)
	q.close()
	q.wait()
}
