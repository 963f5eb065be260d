package admin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	adminv1 "github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1"
	"github.com/crossfade-proxy/crossfade/cmd/internal/admin/gen/crossfade/admin/v1/adminv1connect"
	"github.com/crossfade-proxy/crossfade/cmd/internal/neighbours"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/dualwrite"
	"github.com/crossfade-proxy/crossfade/killswitch"
	"github.com/crossfade-proxy/crossfade/killswitch/rollout"
)

const (
	// MaxMessage bounds one request, in bytes: 1,000 stock rows of five short fields.
	MaxMessage = 1 << 20
	// MaxRows bounds the rows of one LoadStock.
	MaxRows = 1000
)

// Backend is the proxy, as the admin service sees it.
type Backend interface {
	Pods() []backends.Pod
	Status(ctx context.Context, pod backends.Pod) (killswitch.Status, error)
	// SetStage moves a pod; steps is told of steps as they are taken.
	SetStage(ctx context.Context, r killswitch.SwitchRequest, steps func(killswitch.StepDone)) (killswitch.Result, error)
	Kill(ctx context.Context, r killswitch.KillRequest) (killswitch.KillResult, error)
	StartRollout(ctx context.Context, r rollout.Request, dry bool) (*rollout.State, error)
	Rollout(ctx context.Context) (rollout.Overview, error)
	ChangeRollout(ctx context.Context, q RolloutChange) (*rollout.State, error)
	// Reissue raises both fences to a new epoch in the same stage.
	Reissue(ctx context.Context, pod backends.Pod, who, why string) (killswitch.Result, error)
	// History answers changes as killswitch.ControlStore does.
	History(ctx context.Context, pod backends.Pod, before uint64, limit int) ([]killswitch.Change, error)
	Report(ctx context.Context, pod backends.Pod, since time.Time) (comparator.Report, error)
	ListFindings(ctx context.Context, q comparator.FindingQuery) ([]comparator.Finding, error)
	Finding(ctx context.Context, pod backends.Pod, id string) (comparator.Finding, error)
	// MoveFindings changes the life of findings, all of them or none.
	MoveFindings(ctx context.Context, pod backends.Pod, ids []string, c comparator.LifeChange) ([]comparator.Moved, error)
	// ListApologies tells in problems what could not be read.
	ListApologies(ctx context.Context, q comparator.ApologyQuery) (as []comparator.ApologyRecord, sum comparator.ApologySum, problems []string, err error)
	AckApology(ctx context.Context, pod backends.Pod, id string, a comparator.ApologyAck) (*comparator.ApologyRecord, bool, error)
	Audit(ctx context.Context, pod backends.Pod, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error)
	// Repair plans what makes the shadow agree with the truth, and with Apply does it. On an error the result, if
	// there is one, says how far it came.
	Repair(ctx context.Context, q RepairAsked, progress func(comparator.RepairProgress)) (*comparator.RepairResult, error)
	// ResumeAudit goes on where an audit was interrupted, or begins one.
	ResumeAudit(ctx context.Context, pod backends.Pod, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error)
	Conservation(ctx context.Context, pod backends.Pod) (*comparator.Conservation, error)
	// LoadStock loads one row. Known tells that it was in already, under the same operation id.
	LoadStock(ctx context.Context, r *backends.RestockRequest) (known bool, err error)
	AdoptStock(ctx context.Context, pod backends.Pod) (AdoptResult, error)
	Backfill(ctx context.Context, pod backends.Pod, progress func(dualwrite.BackfillProgress)) error
	// Connections looks at all sessions of the pod's MySQL for a while; progress is told of samples.
	Connections(ctx context.Context, pod backends.Pod, last, every time.Duration, progress func(samples int)) (neighbours.Connections, error)
	Locks(ctx context.Context, pod backends.Pod) (neighbours.Locks, error)
}

// Handler serves the admin service, and other at every other path.
func Handler(b Backend, tokens map[string]string, other http.Handler) (http.Handler, error) {
	if b == nil {
		return nil, errors.New("admin: no backend")
	}
	path, h := adminv1connect.NewAdminServiceHandler(&server{b: b}, connect.WithReadMaxBytes(MaxMessage))
	mux := http.NewServeMux()
	mux.Handle(path, authenticate(tokens, h))
	mux.Handle("POST /v1/kill/{pod}", authenticate(tokens, killHandler(b)))
	mux.Handle("/", other)
	return sameHost(mux, len(tokens) == 0), nil
}

type whoKey struct{}

// who is the name of the token that a call came with.
func who(ctx context.Context) string {
	s, _ := ctx.Value(whoKey{}).(string)
	return s
}

func authenticate(tokens map[string]string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := ""
		if len(tokens) == 0 {
			name = "local"
		}
		given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		for n, t := range tokens { // all of them, so that time tells nothing
			if subtle.ConstantTimeCompare([]byte(given), []byte(t)) == 1 {
				name = n
			}
		}
		if name == "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="crossfade"`)
			http.Error(w, "a token of admin.tokens is required: set CROSSFADE_TOKEN or give --token", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), whoKey{}, name)))
	})
}

// sameHost refuses what a browser was tricked into sending: an Origin that is not the Host, and,
// without tokens, a Host that is not loopback (DNS rebinding).
func sameHost(next http.Handler, loopbackOnly bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if loopbackOnly && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "the admin service answers on loopback only, unless admin.tokens is set", http.StatusForbidden)
			return
		}
		if o := r.Header.Get("Origin"); o != "" {
			u, err := url.Parse(o)
			if err != nil || u.Host != r.Host {
				http.Error(w, "requests of other origins are refused", http.StatusForbidden)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// server translates between messages and the backend.
type server struct{ b Backend }

// problem gives an error its code. Details of the error are its text: it names the next step.
func problem(err error) error {
	if err == nil {
		return nil
	}
	var gate *killswitch.GateError
	var refused *killswitch.KillRefusedError
	var open *killswitch.OpenSwitchError
	var due *killswitch.WorkDueError
	var notDone *killswitch.NotDoneError
	var differ *dualwrite.LevelsDifferError
	var life *comparator.LifeError
	var phase *rollout.PhaseError
	code := connect.CodeInternal
	switch {
	case backends.IsRejection(err):
		code = connect.CodeInvalidArgument
	case errors.Is(err, comparator.ErrNoFinding), errors.Is(err, comparator.ErrNoApology):
		code = connect.CodeNotFound
	case errors.As(err, &gate), errors.As(err, &refused), errors.As(err, &due), errors.As(err, &life), errors.As(err, &phase):
		code = connect.CodeFailedPrecondition
	case errors.As(err, &open), errors.As(err, &notDone), errors.Is(err, killswitch.ErrBusy), errors.Is(err, killswitch.ErrDriverAlive), errors.Is(err, killswitch.ErrConflict):
		code = connect.CodeAborted
	case errors.Is(err, comparator.ErrNoPair), errors.Is(err, comparator.ErrNothingToAudit):
		code = connect.CodeFailedPrecondition
	case errors.Is(err, comparator.ErrStageMoved), errors.Is(err, comparator.ErrAuditTaken), errors.Is(err, dualwrite.ErrEpochMoved):
		code = connect.CodeAborted // the pod moved meanwhile: the same again
	case errors.As(err, &differ):
		code = connect.CodeDataLoss // the backfill worked, and found that one store has lost units
	case errors.Is(err, backends.ErrUnavailable), errors.Is(err, backends.ErrBusy), errors.Is(err, killswitch.ErrControlUnavailable):
		code = connect.CodeUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		code = connect.CodeDeadlineExceeded
	}
	return connect.NewError(code, err)
}

func text(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("admin: encoding an answer: %w", err)
	}
	return string(b), nil
}

func (s *server) ListPods(ctx context.Context, _ *connect.Request[adminv1.ListPodsRequest]) (*connect.Response[adminv1.ListPodsResponse], error) {
	out := &adminv1.ListPodsResponse{}
	for _, pod := range s.b.Pods() {
		st, err := s.b.Status(ctx, pod)
		if err != nil {
			return nil, problem(err)
		}
		t, err := text(st)
		if err != nil {
			return nil, problem(err)
		}
		out.PodsJson = append(out.PodsJson, t)
	}
	return connect.NewResponse(out), nil
}

func (s *server) GetStatus(ctx context.Context, r *connect.Request[adminv1.GetStatusRequest]) (*connect.Response[adminv1.GetStatusResponse], error) {
	st, err := s.b.Status(ctx, backends.Pod(r.Msg.GetPod()))
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(st)
	return connect.NewResponse(&adminv1.GetStatusResponse{StatusJson: t}), problem(err)
}

func (s *server) SetStage(ctx context.Context, r *connect.Request[adminv1.SetStageRequest], out *connect.ServerStream[adminv1.SetStageResponse]) error {
	to, err := backends.ParseStage(r.Msg.GetStage())
	if err != nil {
		return problem(err)
	}
	var sendErr error
	res, err := s.b.SetStage(ctx, killswitch.SwitchRequest{
		Pod: backends.Pod(r.Msg.GetPod()), To: to, Who: who(ctx), Why: r.Msg.GetWhy(), Force: r.Msg.GetForce(), DryRun: r.Msg.GetDryRun(),
	}, func(d killswitch.StepDone) {
		if sendErr == nil {
			sendErr = out.Send(&adminv1.SetStageResponse{Step: d.Name, TookMs: int64(d.TookMillis)})
		}
	})
	if err != nil && res.Refused == "" {
		return problem(err)
	}
	t, err := text(res)
	if err != nil {
		return problem(err)
	}
	return errors.Join(sendErr, out.Send(&adminv1.SetStageResponse{Done: true, ResultJson: t}))
}

func (s *server) Kill(ctx context.Context, r *connect.Request[adminv1.KillRequest]) (*connect.Response[adminv1.KillResponse], error) {
	res, err := kill(ctx, s.b, r.Msg.GetPod(), r.Msg.GetFrom(), killswitch.KillRequest{Why: r.Msg.GetWhy(), DryRun: r.Msg.GetDryRun(), ExpectEpoch: r.Msg.GetFromEpoch()})
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(res)
	return connect.NewResponse(&adminv1.KillResponse{ResultJson: t}), problem(err)
}

func (s *server) Reissue(ctx context.Context, r *connect.Request[adminv1.ReissueRequest]) (*connect.Response[adminv1.ReissueResponse], error) {
	res, err := s.b.Reissue(ctx, backends.Pod(r.Msg.GetPod()), who(ctx), r.Msg.GetWhy())
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(res)
	return connect.NewResponse(&adminv1.ReissueResponse{ResultJson: t}), problem(err)
}

func (s *server) GetReport(ctx context.Context, r *connect.Request[adminv1.GetReportRequest]) (*connect.Response[adminv1.GetReportResponse], error) {
	var since time.Time
	if n := r.Msg.GetSinceSeconds(); n > 0 {
		since = time.Now().Add(-time.Duration(n) * time.Second)
	}
	rep, err := s.b.Report(ctx, backends.Pod(r.Msg.GetPod()), since)
	var unbalanced *comparator.UnbalancedError
	if err != nil && !errors.As(err, &unbalanced) { // an account out of balance is on the page itself
		return nil, problem(err)
	}
	t, err := text(rep)
	return connect.NewResponse(&adminv1.GetReportResponse{ReportJson: t}), problem(err)
}

func (s *server) Audit(ctx context.Context, r *connect.Request[adminv1.AuditRequest], out *connect.ServerStream[adminv1.AuditResponse]) error {
	var sendErr error
	audit := s.b.Audit
	if r.Msg.GetResume() {
		audit = s.b.ResumeAudit
	}
	res, err := audit(ctx, backends.Pod(r.Msg.GetPod()), func(g comparator.AuditProgress) {
		if sendErr == nil {
			sendErr = out.Send(&adminv1.AuditResponse{Phase: g.Phase, Holds: g.Holds, Levels: g.Levels})
		}
	})
	if err != nil {
		return problem(err)
	}
	t, err := text(res)
	if err != nil {
		return problem(err)
	}
	return errors.Join(sendErr, out.Send(&adminv1.AuditResponse{ResultJson: t}))
}

func (s *server) CheckConservation(ctx context.Context, r *connect.Request[adminv1.CheckConservationRequest]) (*connect.Response[adminv1.CheckConservationResponse], error) {
	res, err := s.b.Conservation(ctx, backends.Pod(r.Msg.GetPod()))
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(res)
	return connect.NewResponse(&adminv1.CheckConservationResponse{ResultJson: t}), problem(err)
}

func (s *server) LoadStock(ctx context.Context, r *connect.Request[adminv1.LoadStockRequest]) (*connect.Response[adminv1.LoadStockResponse], error) {
	rows := r.Msg.GetRows()
	if len(rows) > MaxRows {
		return nil, problem(&backends.FieldError{Field: "rows", Value: fmt.Sprint(len(rows)), Bound: fmt.Sprintf("at most %d a call", MaxRows), Next: "send them in several calls"})
	}
	kind := backends.RestockSetOnHand
	if r.Msg.GetAdd() {
		kind = backends.RestockAdd
	}
	out := &adminv1.LoadStockResponse{}
	for i, row := range rows {
		known, err := s.b.LoadStock(ctx, &backends.RestockRequest{
			OpID: backends.OpID(row.GetOpId()), Kind: kind, Amount: row.GetQuantity(), Caller: "stock-load",
			Key: backends.Key{Shop: backends.Shop(row.GetShop()), Item: backends.Item(row.GetItem()), Location: backends.Location(row.GetLocation())},
		})
		switch {
		case err == nil && known:
			out.Known++
		case err == nil:
			out.Loaded++
		case backends.IsRejection(err):
			out.Errors = append(out.Errors, &adminv1.RowError{Index: int32(i), Message: err.Error()}) //nolint:gosec // at most MaxRows
		default:
			return nil, problem(err)
		}
	}
	return connect.NewResponse(out), nil
}

// AdoptResult is what became of the stock keys of an existing checkout.
type AdoptResult struct {
	Pod backends.Pod `json:"pod"`
	// Adopted counters are new as levels in Redis; Ledger rows were new to MySQL; Same were there with
	// the same quantity.
	Adopted int `json:"adopted"`
	Ledger  int `json:"ledger"`
	Same    int `json:"same"`
	// DifferTotal keys have another quantity in the ledger than in Redis; nothing was changed there. Differ
	// lists the first of them.
	DifferTotal int           `json:"differ_total"`
	Differ      []AdoptDiffer `json:"differ"`
}

// AdoptDiffer is a key whose ledger does not agree with its counter.
type AdoptDiffer struct {
	Key    backends.Key `json:"key"`
	Redis  int64        `json:"redis"`
	Ledger int64        `json:"ledger"`
}

func (s *server) AdoptStock(ctx context.Context, r *connect.Request[adminv1.AdoptStockRequest]) (*connect.Response[adminv1.AdoptStockResponse], error) {
	res, err := s.b.AdoptStock(ctx, backends.Pod(r.Msg.GetPod()))
	if err != nil {
		return nil, problem(err)
	}
	t, err := text(res)
	return connect.NewResponse(&adminv1.AdoptStockResponse{ResultJson: t}), problem(err)
}

func (s *server) Backfill(ctx context.Context, r *connect.Request[adminv1.BackfillRequest], out *connect.ServerStream[adminv1.BackfillResponse]) error {
	var sendErr error
	err := s.b.Backfill(ctx, backends.Pod(r.Msg.GetPod()), func(b dualwrite.BackfillProgress) {
		if sendErr == nil {
			sendErr = out.Send(&adminv1.BackfillResponse{Phase: b.Phase, Levels: int64(b.Levels), Holds: int64(b.Holds), Voided: int64(b.Voided), Waiting: b.Waiting})
		}
	})
	if err != nil {
		return problem(err)
	}
	return errors.Join(sendErr, out.Send(&adminv1.BackfillResponse{Done: true}))
}
