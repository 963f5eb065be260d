// Package clienttest holds the RESP door against the real thing: the same bytes sent to a real
// Redis and to the door (parity), and stock clients that were written for Redis (build tag
// clients: redis-cli, redis-benchmark, ioredis, go-redis).
//
// It has tests only.
package clienttest
