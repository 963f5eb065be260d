package redisstore

import (
	"context"
	"strconv"
)

// Identity is the data set (as replication knows it: a replica has its primary's), the database and the pod's prefix.
func (s *Store) Identity(ctx context.Context) (string, error) {
	info, err := s.info(ctx, "replication")
	if err != nil {
		return "", err
	}
	set := info["master_replid"]
	if set == "" {
		return "", malformed("INFO replication", errReply)
	}
	return "redis data " + set + ", database " + strconv.Itoa(s.client.Options().DB) + ", prefix " + s.names.prefix, nil
}
