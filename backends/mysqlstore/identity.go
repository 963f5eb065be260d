package mysqlstore

import (
	"context"
	"database/sql"
)

// Identity is the server, by the place of its data on its machine, the database and the pod.
func (s *Store) Identity(ctx context.Context) (string, error) {
	var host, port, dir, db string
	err := s.read(ctx, "identity", "", func(b *batch) {
		b.ask(func(r *sql.Rows) error { return r.Scan(&host, &port, &dir, &db) }, "SELECT @@GLOBAL.hostname, @@GLOBAL.port, @@GLOBAL.datadir, DATABASE()")
	})
	if err != nil {
		return "", err
	}
	return "mysql data " + host + ":" + port + dir + ", database " + db + ", pod " + string(s.cfg.Pod), nil
}
