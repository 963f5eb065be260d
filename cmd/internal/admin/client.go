package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1/adminv1connect"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

const (
	// dialTimeout bounds how long it takes to reach a proxy.
	dialTimeout = 5 * time.Second
	// answerTimeout bounds how long a proxy may take to answer what it answers from a few reads: a status, a
	// report (which has eight seconds of its own).
	answerTimeout = 30 * time.Second
	// killTimeout is longer than a proxy takes for a kill when nothing but Redis answers, and slowly: see the
	// bounds of killswitch.Kill.
	killTimeout = 4 * time.Second
	// killTries is how often a kill is sent whose answer does not come.
	killTries = 3
	// workTimeout bounds what takes as long as there is stock: a switch whose gates check every level, an audit,
	// a backfill, an adoption. Whoever does not want to wait interrupts the command.
	workTimeout = 12 * time.Hour
)

// Client asks a proxy's admin service.
type Client struct {
	c    adminv1connect.AdminServiceClient // answers within answerTimeout
	long adminv1connect.AdminServiceClient // answers within workTimeout
	kill adminv1connect.AdminServiceClient // answers within killTimeout
	addr string
}

// NewClient speaks to addr (host:port) with token, which may be empty for a proxy without tokens.
func NewClient(addr, token string) *Client { return newClient(addr, token, answerTimeout) }

func newClient(addr, token string, answer time.Duration) *Client {
	within := func(d time.Duration) adminv1connect.AdminServiceClient {
		// A proxy whose machine is gone is noticed by the dialer's keep-alives.
		tr := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ResponseHeaderTimeout: d}
		return adminv1connect.NewAdminServiceClient(&http.Client{Transport: &tokenTransport{tr, token}, Timeout: workTimeout}, "http://"+addr)
	}
	return &Client{c: within(answer), long: within(workTimeout), kill: within(min(answer, killTimeout)), addr: addr}
}

// tokenTransport sets the token on every call.
type tokenTransport struct {
	next  http.RoundTripper
	token string
}

// RoundTrip implements http.RoundTripper.
func (t *tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	bearer(r.Header, t.token)
	return t.next.RoundTrip(r)
}

func bearer(h http.Header, token string) {
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
}

// told gives an error of the wire its own words back, and says where nobody answered.
func (c *Client) told(err error) error {
	var ce *connect.Error
	var late net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &late) && late.Timeout() && !connect.IsWireError(err):
		return &RemoteError{Code: connect.CodeDeadlineExceeded, Text: "the proxy at " + c.addr + " has taken the call and does not answer; what was asked for may have been done all the same: see 'crossfade status', or ask another proxy with --admin"}
	case errors.As(err, &ce) && ce.Code() == connect.CodeUnavailable && !connect.IsWireError(err):
		return fmt.Errorf("no proxy answers at %s (%w); start one with 'crossfade serve', or name another with --admin", c.addr, err)
	case errors.As(err, &ce) && ce.Code() == connect.CodeUnauthenticated:
		return &RemoteError{Code: ce.Code(), Text: "the proxy at " + c.addr + " does not know this token: set CROSSFADE_TOKEN or give --token, with one of its admin.tokens"}
	case errors.As(err, &ce):
		return &RemoteError{Code: ce.Code(), Text: ce.Message()}
	default:
		return err
	}
}

// RemoteError is what the proxy answered.
type RemoteError struct {
	Code connect.Code
	Text string
}

func (e *RemoteError) Error() string { return e.Text }

func decode[T any](s string) (v T, err error) {
	if err = json.Unmarshal([]byte(s), &v); err != nil {
		err = fmt.Errorf("the proxy's answer cannot be read (%w); is it of another version?", err)
	}
	return v, err
}

// Pods gives the status of every pod.
func (c *Client) Pods(ctx context.Context) ([]killswitch.Status, error) {
	r, err := c.c.ListPods(ctx, connect.NewRequest(&adminv1.ListPodsRequest{}))
	if err != nil {
		return nil, c.told(err)
	}
	var out []killswitch.Status
	for _, s := range r.Msg.GetPodsJson() {
		st, err := decode[killswitch.Status](s)
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// Status gives the status of one pod.
func (c *Client) Status(ctx context.Context, pod string) (killswitch.Status, error) {
	r, err := c.c.GetStatus(ctx, connect.NewRequest(&adminv1.GetStatusRequest{Pod: pod}))
	if err != nil {
		return killswitch.Status{}, c.told(err)
	}
	return decode[killswitch.Status](r.Msg.GetStatusJson())
}

// SetStage moves a pod. When gates stand in the way the result names all of them, and the error is a *RemoteError.
func (c *Client) SetStage(ctx context.Context, pod, stage, why string, force []string, dryRun bool, step func(name string, took time.Duration)) (res killswitch.Result, err error) {
	st, err := c.long.SetStage(ctx, connect.NewRequest(&adminv1.SetStageRequest{Pod: pod, Stage: stage, Why: why, Force: force, DryRun: dryRun}))
	if err != nil {
		return res, c.told(err)
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		m := st.Msg()
		if m.GetDone() {
			res, err = decode[killswitch.Result](m.GetResultJson())
			if err == nil && res.Refused != "" {
				err = &RemoteError{Code: connect.CodeFailedPrecondition, Text: res.Refused}
			}
			return res, err
		}
		step(m.GetStep(), time.Duration(m.GetTookMs())*time.Millisecond)
	}
	return res, c.ended(st.Err())
}

// ended is the error of a stream that ended without its last message.
func (c *Client) ended(err error) error {
	if err == nil {
		return fmt.Errorf("the proxy at %s ended its answer early; see 'crossfade status'", c.addr)
	}
	return c.told(err)
}

// Kill takes a pod back from the stage from, or from where it is when that is unknown. It looks at Redis's fence
// first, through the proxy, and then says what it kills: so a kill whose answer is lost is sent again,
// and takes the pod back once. doing is told of the stage and epoch before the kill is sent.
func (c *Client) Kill(ctx context.Context, pod, why string, from backends.Stage, dryRun bool, doing func(backends.Fence)) (killswitch.KillResult, error) {
	q := &adminv1.KillRequest{Pod: pod, Why: why, DryRun: true}
	if from != backends.StageUnknown {
		q.From = from.String()
	}
	res, err := c.killOnce(ctx, c.kill, q)
	if err != nil || dryRun || res.Verdict != killswitch.KillGo {
		res.DryRun = dryRun // there was nothing to do, and that is the answer
		return res, err
	}
	doing(res.From)
	q = &adminv1.KillRequest{Pod: pod, Why: why, From: res.From.Stage.String(), FromEpoch: res.From.Epoch}
	send := c.kill
	if b := res.Behind; b != nil && b.Marked { // it waits for permissions to run out
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, killTries*(killTimeout+time.Duration(b.WaitMillis)*time.Millisecond))
		defer cancel()
		send = c.long
	}
	for range killTries {
		var again error
		res, again = c.killOnce(ctx, send, q)
		if err == nil || again == nil {
			err = again
		}
		var answered *RemoteError
		if again == nil || ctx.Err() != nil || errors.As(again, &answered) && answered.Code != connect.CodeDeadlineExceeded {
			return res, again
		}
	}
	return res, fmt.Errorf("%w; the kill may have been done all the same: give the same command again, it kills once", err)
}

func (c *Client) killOnce(ctx context.Context, by adminv1connect.AdminServiceClient, q *adminv1.KillRequest) (killswitch.KillResult, error) {
	r, err := by.Kill(ctx, connect.NewRequest(q))
	if err != nil {
		return killswitch.KillResult{}, c.told(err)
	}
	return decode[killswitch.KillResult](r.Msg.GetResultJson())
}

// Reissue raises both fences to a new epoch in the same stage.
func (c *Client) Reissue(ctx context.Context, pod, why string) (killswitch.Result, error) {
	r, err := c.c.Reissue(ctx, connect.NewRequest(&adminv1.ReissueRequest{Pod: pod, Why: why}))
	if err != nil {
		return killswitch.Result{}, c.told(err)
	}
	return decode[killswitch.Result](r.Msg.GetResultJson())
}

// Report gives the mismatch report; since 0 means all that is kept.
func (c *Client) Report(ctx context.Context, pod string, since time.Duration) (comparator.Report, error) {
	r, err := c.c.GetReport(ctx, connect.NewRequest(&adminv1.GetReportRequest{Pod: pod, SinceSeconds: int64(since.Seconds())}))
	if err != nil {
		return comparator.Report{}, c.told(err)
	}
	return decode[comparator.Report](r.Msg.GetReportJson())
}

// Audit compares all holds and levels, from the beginning.
func (c *Client) Audit(ctx context.Context, pod string, progress func(phase string, holds, levels int64)) (*comparator.AuditResult, error) {
	return c.audit(ctx, &adminv1.AuditRequest{Pod: pod}, progress)
}

// ResumeAudit goes on with the pod's audit where one was interrupted, or begins one.
func (c *Client) ResumeAudit(ctx context.Context, pod string, progress func(phase string, holds, levels int64)) (*comparator.AuditResult, error) {
	return c.audit(ctx, &adminv1.AuditRequest{Pod: pod, Resume: true}, progress)
}

func (c *Client) audit(ctx context.Context, q *adminv1.AuditRequest, progress func(phase string, holds, levels int64)) (*comparator.AuditResult, error) {
	st, err := c.long.Audit(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, c.told(err)
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		m := st.Msg()
		if m.GetResultJson() != "" {
			return decode[*comparator.AuditResult](m.GetResultJson())
		}
		progress(m.GetPhase(), m.GetHolds(), m.GetLevels())
	}
	return nil, c.ended(st.Err())
}

// Conservation checks P2 inside each store.
func (c *Client) Conservation(ctx context.Context, pod string) (*comparator.Conservation, error) {
	r, err := c.long.CheckConservation(ctx, connect.NewRequest(&adminv1.CheckConservationRequest{Pod: pod}))
	if err != nil {
		return nil, c.told(err)
	}
	return decode[*comparator.Conservation](r.Msg.GetResultJson())
}

// StockRow is one row of LoadStock.
type StockRow struct {
	Key      backends.Key
	Quantity int64
	OpID     backends.OpID
}

// Loaded is what became of the rows of a LoadStock.
type Loaded struct {
	// New rows were loaded; Known ones had been before, under the same operation id.
	New, Known int
	// Bad are the errors of the others, by their index.
	Bad map[int]string
}

// LoadStock loads at most MaxRows rows.
func (c *Client) LoadStock(ctx context.Context, rows []StockRow, add bool) (Loaded, error) {
	m := &adminv1.LoadStockRequest{Add: add}
	for _, r := range rows {
		m.Rows = append(m.Rows, &adminv1.StockRow{Shop: string(r.Key.Shop), Item: string(r.Key.Item), Location: string(r.Key.Location), Quantity: r.Quantity, OpId: string(r.OpID)})
	}
	r, err := c.long.LoadStock(ctx, connect.NewRequest(m))
	if err != nil {
		return Loaded{}, c.told(err)
	}
	out := Loaded{New: int(r.Msg.GetLoaded()), Known: int(r.Msg.GetKnown()), Bad: map[int]string{}}
	for _, e := range r.Msg.GetErrors() {
		out.Bad[int(e.GetIndex())] = e.GetMessage()
	}
	return out, nil
}

// AdoptStock takes over the stock keys that are in a pod's Redis already.
func (c *Client) AdoptStock(ctx context.Context, pod string) (AdoptResult, error) {
	r, err := c.long.AdoptStock(ctx, connect.NewRequest(&adminv1.AdoptStockRequest{Pod: pod}))
	if err != nil {
		return AdoptResult{}, c.told(err)
	}
	return decode[AdoptResult](r.Msg.GetResultJson())
}

// Backfill makes the shadow complete again.
func (c *Client) Backfill(ctx context.Context, pod string, progress func(phase string, levels, holds, voided, waiting int64)) error {
	st, err := c.long.Backfill(ctx, connect.NewRequest(&adminv1.BackfillRequest{Pod: pod}))
	if err != nil {
		return c.told(err)
	}
	defer func() { _ = st.Close() }()
	for st.Receive() {
		m := st.Msg()
		if m.GetDone() {
			return nil
		}
		progress(m.GetPhase(), m.GetLevels(), m.GetHolds(), m.GetVoided(), m.GetWaiting())
	}
	return c.ended(st.Err())
}
