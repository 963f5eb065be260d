package demo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/orders"
	"github.com/crossfade-proxy/crossfade/cmd/internal/replay"
)

// checkout is a shop that sells, in the background.
type checkout struct {
	pod  backends.Pod
	opts replay.Options

	until  chan struct{}
	ending sync.Once
	cancel context.CancelFunc
	line   lastLine

	done chan struct{} // closed when sum and err are there
	sum  replay.Summary
	err  error
}

// sell begins to play a shop's book. Its stock is set first, through the door, as a shop would.
func (s *show) sell(ctx context.Context, pod backends.Pod, shop backends.Shop, seed uint64) error {
	book, err := orders.Generate(seed, s.pace.orders)
	if err != nil {
		return err
	}
	book = shelf(book, s.pace.items)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the show ends it, in its own time
	c := &checkout{pod: pod, until: make(chan struct{}), cancel: cancel, done: make(chan struct{})}
	run := fmt.Sprintf("%s-%06x", pod, s.start.UnixMicro()&0xffffff)
	c.opts = replay.Options{
		Orders: book, Against: s.sys.Doors(), Shop: shop, Stock: s.pace.stock, Clients: s.pace.clients, Rate: s.pace.rate,
		Hold: s.pace.hold, Until: c.until, Run: run, Random: seed, LogPath: filepath.Join(s.logs, run+".jsonl"), Progress: &c.line, Caller: "checkout",
	}
	s.shops = append(s.shops, c)
	go func() {
		defer close(c.done)
		c.sum, c.err = replay.Run(ctx, c.opts)
	}()
	return nil
}

// end lets the checkout finish the carts that it has begun.
func (c *checkout) end() { c.ending.Do(func() { close(c.until) }) }

// wait waits for that; when ctx is over, the checkout is cut off.
func (c *checkout) wait(ctx context.Context) {
	select {
	case <-c.done:
	case <-ctx.Done():
		c.cancel()
		<-c.done
	}
	c.cancel()
}

// failed tells whether the checkout could not go on.
func (c *checkout) failed() error {
	select {
	case <-c.done:
		if c.err != nil {
			return fmt.Errorf("the checkout of pod %s: %w", c.pod, c.err)
		}
	default:
	}
	return nil
}

// checkLog holds the checkout's own log against the truth, hold by hold.
func (c *checkout) checkLog(ctx context.Context) (replay.LogCheck, error) {
	get, done, err := replay.ThroughDoor(c.opts)
	if err != nil {
		return replay.LogCheck{}, err
	}
	defer done()
	f, err := os.Open(c.opts.LogPath)
	if err != nil {
		return replay.LogCheck{}, err
	}
	defer f.Close()
	return replay.CheckLog(ctx, f, get)
}

// single plays one order in a shop, at once, beside its checkout.
func (s *show) single(ctx context.Context, shop backends.Shop, run string, o orders.Order) (replay.Summary, error) {
	return replay.Run(ctx, replay.Options{
		Orders: &orders.Book{Orders: []orders.Order{o}}, Against: s.sys.Doors(), Shop: shop, Stock: -1, Clients: 1,
		Run: fmt.Sprintf("%s-%06x", run, s.start.UnixMicro()&0xffffff), Patience: patience, Caller: "checkout",
	})
}

// lastLine keeps the last whole line that was written to it.
type lastLine struct {
	mu   sync.Mutex
	part []byte
	last string
}

// Write implements io.Writer.
func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	if i := bytes.LastIndexByte(l.part, '\n'); i >= 0 {
		whole := l.part[:i]
		l.last = string(whole[bytes.LastIndexByte(whole, '\n')+1:])
		l.part = append(l.part[:0], l.part[i+1:]...)
	}
	return len(p), nil
}

func (l *lastLine) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimPrefix(l.last, "replay: ")
}

// indented writes each line further to the right.
type indented struct{ w io.Writer }

// Write implements io.Writer; what it is given is whole lines.
func (i indented) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if _, err := io.WriteString(i.w, "             "+line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// shelf makes a book into that of a smaller shop, with so many items: codes that sort next to each
// other become one. Stocking a shop of thousands of items would be most of a short demo.
func shelf(b *orders.Book, items int) *orders.Book {
	all := b.Items()
	name := make(map[backends.Item]backends.Item, len(all))
	for i, it := range all {
		name[it] = all[i*items/len(all)*len(all)/items]
	}
	small := &orders.Book{Orders: make([]orders.Order, len(b.Orders))}
	for i := range b.Orders {
		o := b.Orders[i]
		at := map[backends.Item]int{}
		var lines []orders.Line
		for _, l := range o.Lines {
			it := name[l.Item]
			if j, known := at[it]; known {
				lines[j].Quantity += l.Quantity
				continue
			}
			at[it] = len(lines)
			lines = append(lines, orders.Line{Item: it, Quantity: l.Quantity})
		}
		o.Lines = lines
		small.Orders[i], small.Rows = o, small.Rows+len(lines)
	}
	return small
}
