package redisstore

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/crossfade-proxy/crossfade/backends"
)

// Redis's cost is that of a call of a script, and less that of what the script does. So operations
// that wait at the same time share one call (lua/fold.lua), which reads the fence once, each level
// once, and writes each level once. Each member keeps its own verdict, and a lone one is a call of one.

// Roles in which a fence admits an epoch, as scripts name them.
const (
	asTruth      = "truth"
	asMirrorRole = "mirror"
	asRestored   = "restore"
)

// Bounds of one call. The script has a bound of its own for what it does, and leaves the members for
// which it had no room to the next call: see ROOM in lua/prelude.lua.
const (
	// foldMembers bounds the members.
	foldMembers = 128
	// foldWeight bounds their weight, in front of the last member: what the script would leave is not
	// sent for nothing.
	foldWeight = 200
)

// Separators of the answer.
const (
	verdictSeparator = "\x02"
	partOfVerdict    = "\x01"
	errorVerdict     = '!'
)

// member is one operation in a call. Its arguments are read when the call is written, which may be after
// its caller has left: so it keeps values of its own, and nothing that is the caller's to change.
type member interface {
	// write adds its kind, the number of its arguments, and these. In a call of counts.lua it is a count, and
	// adds what that wants.
	write(c *call)
	// weight is about what it has the script do, in the script's units: levels and members.
	weight() int
}

// levelName is how a call names a level: its field among the levels, and its counter.
type levelName struct{ field, counter string }

// maxLevelNames bounds the names that are kept, at some 200 bytes each.
const maxLevelNames = 4096

// level gives the name of k, or a *FieldError when the template cannot name it.
func (s *Store) level(k backends.Key) (*levelName, error) {
	s.levels.RLock()
	n := s.levels.named[k]
	s.levels.RUnlock()
	if n != nil {
		return n, nil
	}
	counter, err := s.names.stock(k)
	if err != nil {
		return nil, err
	}
	n = &levelName{field: field(k), counter: counter}
	s.levels.Lock()
	defer s.levels.Unlock()
	if len(s.levels.named) >= maxLevelNames || s.levels.named == nil {
		s.levels.named = map[backends.Key]*levelName{}
	}
	s.levels.named[k] = n
	return n, nil
}

// call is one call of the script while it is put together and sent. A writer has a few, which it uses again.
type call struct {
	command
	role    string
	jobs    []*job
	members int
	weight  int
	body    []any // the members
	levels  []*levelName
	places  map[*levelName]int
	epoch   string
	tok     backends.Token
	ids     []byte  // operation ids, of counts.lua
	id      *string // of the call, of counts.lua
}

// numbers are the texts of small numbers, so that naming one costs nothing.
var numbers = func() (n [1024]string) {
	for i := range n {
		n[i] = strconv.Itoa(i)
	}
	return n
}()

func number(n int) *string {
	if n < len(numbers) {
		return &numbers[n]
	}
	s := strconv.Itoa(n)
	return &s
}

// begin takes the call for jobs of one token and role.
func (c *call) begin(s *Store, sc *script, t backends.Token, role string) {
	clear(c.jobs)
	clear(c.body)
	clear(c.places)
	if c.places == nil {
		c.places = map[*levelName]int{}
	}
	c.jobs, c.body, c.levels, c.members = c.jobs[:0], c.body[:0], c.levels[:0], 0
	c.weight = 0
	c.role, c.tok, c.epoch = role, t, strconv.FormatUint(t.Epoch, 10)
	c.script, c.writes, c.token = sc, true, &c.tok
	c.guard = &s.guard
	if sc == countsScript {
		c.ids = c.ids[:0]
		id := s.callIDs.next() // jobs keep it
		c.id = &id
	}
}

// fits tells whether the call takes more, and is for the same token and role.
func (c *call) fits(j *job) bool {
	return c.script == j.script && c.tok == j.token && c.role == j.role && c.members+len(j.members)-j.next <= foldMembers && c.weight < foldWeight
}

// add puts what is left of a job into the call, or what the call has room for.
func (c *call) add(j *job) {
	if c.script == countsScript {
		c.addFresh(j)
		return
	}
	c.jobs = append(c.jobs, j)
	for _, m := range j.members[j.next:] {
		if c.weight >= foldWeight {
			break
		}
		m.write(c)
		c.members++
		c.weight += m.weight()
	}
}

// addFresh does so for counts.lua. A caller who leaves has to know in which call his counts are; if he has
// left already they are not sent.
func (c *call) addFresh(j *job) {
	if before := j.call.Load(); before == &leftJob || !j.call.CompareAndSwap(before, c.id) {
		j.err, j.next = unavailable(errLeft), len(j.members)
		return
	}
	c.jobs = append(c.jobs, j)
	for _, m := range j.members {
		m.write(c)
		c.members++
	}
}

// leftJob stands for the call of a job whose caller has left.
var leftJob string

var errLeft = errors.New("the caller has left")

// callIDs names calls: unique among all proxies by their random part.
type callIDs struct {
	proxy string
	last  atomic.Uint64
}

func (c *callIDs) next() string { return c.proxy + strconv.FormatUint(c.last.Add(1), 36) }

// head begins a member. Its arguments follow.
func (c *call) head(kind *string, args int) { c.body = append(c.body, kind, number(args)) }

func (c *call) text(s *string)  { c.body = append(c.body, s) }
func (c *call) int(n *int64)    { c.body = append(c.body, n) }
func (c *call) number(n int)    { c.body = append(c.body, number(n)) }
func (c *call) at(l *levelName) { c.number(c.place(l)) }

func (c *call) place(l *levelName) int {
	if i, ok := c.places[l]; ok {
		return i
	}
	c.levels = append(c.levels, l)
	c.places[l] = len(c.levels)
	return len(c.levels)
}

// seal puts the arguments in their order.
func (c *call) seal(s *Store) {
	a := append(c.args[:0], "EVALSHA", &c.script.sha, number(len(s.names.fixed)))
	a = append(a, s.names.fixed...)
	a = append(a, (*epochMark)(c), &s.names.marked, s.outboxMax, &s.retainMillis, &c.role, &s.takeRetainMillis, number(len(c.levels)))
	for _, l := range c.levels {
		a = append(a, &l.field, &l.counter)
	}
	if c.script == countsScript {
		a = append(a, c.ids, c.id)
	}
	c.args = append(a, c.body...)
}

// epochMark is the argument of a call that is noted when the driver writes it: see sentMark.
type epochMark call

// MarshalBinary gives the epoch.
func (m *epochMark) MarshalBinary() ([]byte, error) {
	c := (*call)(m)
	return sentMark{c: &c.command, value: c.epoch, guard: c.guard}.MarshalBinary()
}

// absorb hands the answer of the call to its jobs. Members without a verdict wait for the next call.
func (c *call) absorb() {
	v, err := c.result()
	text, ok := v.(string)
	if err == nil && (!ok || text == "" || strings.Count(text, verdictSeparator) >= c.members) {
		err = malformed("answer of a script", errReply)
	}
	for _, j := range c.jobs {
		if err != nil {
			j.err = err
			j.next = len(j.members)
			continue
		}
		for j.next < len(j.members) && ok {
			j.verdicts[j.next], text, ok = strings.Cut(text, verdictSeparator)
			j.next++
		}
	}
}

// fold has members done in their order, as far as possible in one call with those of other callers. It
// answers a verdict for each. An error is that of the whole call: nothing is known of members that have
// no verdict, if it is an ErrAmbiguous, and else nothing of them was done.
func (s *Store) fold(ctx context.Context, l *lane, t backends.Token, role string, members ...member) ([]string, error) {
	j := newJob(ctx)
	j.script, j.members, j.token, j.role = foldScript, members, t, role
	return s.answer(ctx, l, j)
}

func (s *Store) answer(ctx context.Context, l *lane, j *job) ([]string, error) {
	s.reconsider(ctx)
	if len(j.members) == 1 {
		j.verdicts = j.one[:]
	} else {
		j.verdicts = make([]string, len(j.members))
	}
	if err := l.send(ctx, j); err != nil {
		return nil, err
	}
	return j.verdicts, j.err
}

// verdict reads a member's answer by the position of its parts. What is missing is damage, told at the
// end by err.
type verdict struct {
	parts [8]string
	n     int
	bad   bool
}

// memberError is an error reply to one member.
type memberError string

func (e memberError) Error() string { return string(e) }

// RedisError makes it one of the server's errors.
func (memberError) RedisError() {}

// verdictOf splits a text, or classifies the error that it is.
func verdictOf(text string, t backends.Token) (v verdict, err error) {
	if text != "" && text[0] == errorVerdict {
		return v, classify(memberError(text[1:]), true, t)
	}
	for more := true; more; v.n++ {
		if v.n == len(v.parts) {
			v.bad = true
			break
		}
		v.parts[v.n], text, more = strings.Cut(text, partOfVerdict)
	}
	return v, nil
}

func (v *verdict) text(i int) string {
	if i >= v.n {
		v.bad = true
		return ""
	}
	return v.parts[i]
}

func (v *verdict) num(i int) int64 {
	n, err := strconv.ParseInt(v.text(i), 10, 64)
	v.bad = v.bad || err != nil
	return n
}

func (v *verdict) err() error {
	if v.bad {
		return malformed("answer of a script", errReply)
	}
	return nil
}

// hold reads the record that comes after the first word.
func (v *verdict) hold(id backends.HoldID) (*backends.Hold, error) {
	h, _, err := decodeHold(id, v.text(1))
	if err != nil {
		return nil, malformed("hold "+string(id), err)
	}
	return h, nil
}
