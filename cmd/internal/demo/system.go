package demo

import (
	"context"
	"io"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/comparator"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// The pods of the demo, and the shop of each. All stock is at one location, which is the constant of
// both pods' key templates.
const (
	PodOne  backends.Pod      = "one"
	PodTwo  backends.Pod      = "two"
	ShopOne backends.Shop     = "shop-one"
	ShopTwo backends.Shop     = "shop-two"
	Home    backends.Location = backends.DefaultLocation
)

// Operator is what a release manager does and sees. A running proxy has it, and so has the
// memory model.
type Operator interface {
	// SetStage moves a pod by one stage; steps is told of each step taken.
	SetStage(ctx context.Context, r killswitch.SwitchRequest, steps func(killswitch.StepDone)) (killswitch.Result, error)
	// Kill takes a pod back by one compare-and-set in Redis.
	Kill(ctx context.Context, r killswitch.KillRequest) (killswitch.KillResult, error)
	// Status tells stage, phase and work left of a pod.
	Status(ctx context.Context, pod backends.Pod) (killswitch.Status, error)
	// Report builds the mismatch report.
	Report(ctx context.Context, pod backends.Pod, since time.Time) (comparator.Report, error)
	// Audit compares all holds and levels of both stores; what it confirms becomes a finding.
	Audit(ctx context.Context, pod backends.Pod, progress func(comparator.AuditProgress)) (*comparator.AuditResult, error)
	// Conservation checks P2 inside each store.
	Conservation(ctx context.Context, pod backends.Pod) (*comparator.Conservation, error)
}

// System is what the demo plays on: two pods, [PodOne] and [PodTwo], in redis-only, without stock, behind
// RESP doors.
type System interface {
	Operator
	// About names what runs, a line for each server or proxy.
	About() []string
	// Doors are the RESP addresses; they ask for no password.
	Doors() []string
	// LoseUnits takes units that are for sale out of the pod's MySQL behind Crossfade's back: neither
	// ledger, nor holds, nor Redis learn of it. It says in words what it did. An error means that
	// nothing was taken, perhaps since the units are not there yet: it is tried again.
	LoseUnits(ctx context.Context, pod backends.Pod, key backends.Key, n int64) (how string, err error)
	// Stop stops everything and removes what need not be kept; twice is once.
	Stop(ctx context.Context) error
}

// Setup is what a System is opened with.
type Setup struct {
	// Dir keeps the servers' data; empty: a throw-away folder.
	Dir string
	// Keep leaves servers and data behind after Stop, to look at.
	Keep bool
	// Progress gets a line for whatever takes longer than a blink.
	Progress io.Writer
}

// OpenFunc opens a system on real servers. An error that is a *lab.UnavailableError makes the demo
// play on the memory model instead.
type OpenFunc func(ctx context.Context, s Setup) (System, error)
