package lab

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// sqlCommonArgs are for initialising and for serving.
func sqlCommonArgs(in install, data string) ([]string, error) {
	args := []string{"--no-defaults", "--datadir=" + data, "--basedir=" + in.prefix()}
	if os.Getuid() == 0 {
		// mysqld insists on being told that it shall stay root. To change to another
		// user would also undo the parent-death signal; see processAttributes.
		args = append(args, "--user=root")
	}
	if in.Loader == "" {
		return args, nil // an installed program knows where its files are
	}
	share, err := in.share("english/errmsg.sys")
	if err != nil {
		return nil, err
	}
	return append(args, "--lc-messages-dir="+share, "--character-sets-dir="+filepath.Join(share, "charsets")), nil
}

// sqlServeArgs is the command line of a server. It is small, because many run at
// once in tests; it is otherwise what a careful operator would set.
func sqlServeArgs(in install, dir string, port int, fast bool) ([]string, error) {
	args, err := sqlCommonArgs(in, filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	args = append(args,
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--socket=", // none: see doc.go
		"--pid-file="+filepath.Join(dir, "pid"), "--tmpdir="+filepath.Join(dir, "tmp"),
		// Root has no password here: it may read and write files only there.
		"--secure-file-priv="+filepath.Join(dir, "tmp"), "--local-infile=OFF",
		"--max-connections=500", "--innodb-buffer-pool-size=128M",
		"--performance-schema=ON", // tests read its data_locks
		"--server-id=1", "--character-set-server=utf8mb4", "--default-time-zone=+00:00",
	)
	if in.Kind == MySQL {
		args = append(args, "--mysqlx=OFF", "--innodb-redo-log-capacity="+redoSize(fast))
	} else {
		args = append(args, "--innodb-log-file-size="+redoSize(fast))
	}
	if !fast {
		return append(args, "--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1",
			"--log-bin=binlog", "--binlog-format=ROW"), nil
	}
	// What SIGKILL of the server cannot lose need not reach the disk. The writes
	// themselves still reach the kernel at each commit (2, not 0).
	return append(args, "--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync",
		"--innodb-doublewrite=OFF", "--innodb-use-native-aio=OFF", "--skip-log-bin"), nil
}

// redoSize: a template has a small redo log, so that it is cheap to copy; a
// durable server is for load, and grows it when it starts.
func redoSize(fast bool) string {
	if fast {
		return "16M"
	}
	return "256M"
}

// initSQL fills dir with the data folder of a new server.
func initSQL(ctx context.Context, in install, dir string) error {
	args, err := sqlCommonArgs(in, dir)
	if err != nil {
		return err
	}
	var input []byte
	if in.Kind == MySQL {
		args = append(args, "--initialize-insecure", "--innodb-redo-log-capacity=16M", "--innodb-flush-method=nosync")
	} else {
		args = append(args, "--bootstrap", "--innodb-log-file-size=16M", "--innodb-flush-method=nosync",
			"--max-allowed-packet=8M", "--net-buffer-length=16K", "--skip-log-bin")
		if input, err = mariaSystemTables(in); err != nil {
			return err
		}
	}
	// It dies with us as a server does; see supervise for the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := in.command(ctx, args...)
	cmd.SysProcAttr = processAttributes(false)
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", in.Bin, err, clip(string(out), 1500))
	}
	return nil
}

// mariaSystemTables is what mariadb-install-db feeds to the server: the script
// itself wants helper programs from packages that we do not have.
func mariaSystemTables(in install) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("create database if not exists mysql;\nuse mysql;\nset @auth_root_socket=null;\n")
	for _, name := range []string{"system_tables.sql", "performance_tables.sql", "system_tables_data.sql"} {
		names := []string{"mariadb_" + name, "mysql_" + name} // renamed in 11
		share, err := in.share(names...)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(names, func(n string) bool {
			_, err := os.Stat(filepath.Join(share, n))
			return err == nil
		})
		text, err := os.ReadFile(filepath.Join(share, names[at]))
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			// As the script does: no accounts for this machine's own name.
			if !bytes.Contains(line, []byte("@current_hostname")) {
				b.Write(line)
			}
		}
	}
	b.WriteString("delete from mysql.global_priv where user='';\n")
	return b.Bytes(), nil
}

// prepareSQL has a data folder in dir: the one that is there, or a new copy.
func prepareSQL(ctx context.Context, in install, dir string, opts Options) error {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(data); err == nil {
		return nil
	}
	cache, err := opts.cacheDir()
	if err != nil {
		return err
	}
	name, err := templateName(in)
	if err != nil {
		return err
	}
	from, err := template(ctx, cache, name, opts, func(dir string) error { return initSQL(ctx, in, dir) })
	if err != nil {
		return err
	}
	return buildDir(data, func(tmp string) error {
		// auto.cnf names a server for good: each copy makes its own.
		return copyTree(from, tmp, func(name string) bool { return name == "auto.cnf" })
	})
}

// sqlDSN is for database db of the server at base. Arguments are put into the
// text by the client: it saves a round trip for each statement.
func sqlDSN(base *mysql.Config, db string) string {
	c := base.Clone()
	c.DBName = db
	return c.FormatDSN()
}

func localSQL(addr string) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.InterpolateParams = "root", "tcp", addr, true
	return c
}

// sqlVersion asks a server what it is.
func sqlVersion(ctx context.Context, base *mysql.Config) (Kind, Version, error) {
	var text string
	err := withSQL(base, "", func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT CONCAT(VERSION(), ' ', @@version_comment)").Scan(&text)
	})
	if err != nil {
		return "", Version{}, err
	}
	v, ok := ParseVersion(text)
	if !ok {
		return "", v, fmt.Errorf("the server calls its version %q", clip(text, 80))
	}
	return sqlKind(text), v, nil
}

// withSQL runs f on a short-lived pool: the lab keeps no connection open.
func withSQL(base *mysql.Config, dbName string, f func(*sql.DB) error) error {
	c := base.Clone()
	c.DBName = dbName
	c.Logger = &mysql.NopLogger{} // refused connections of a starting server are no news
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	return f(db)
}

// quoteName is for a name inside backquotes.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
