package backends

import "context"

type urgentKey struct{}

// Urgent has what is read under ctx go before what others wait for, in a store whose connections are few: it takes one of those that
// are kept for fences. It is for a kill, for which checkout waits, while other sessions may all be waiting for locks.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// IsUrgent tells whether ctx was made by Urgent.
func IsUrgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }
