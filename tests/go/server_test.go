package bowstring

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// common is the server of most tests; a test that looks at memory starts one of its own.
var common *server

// The kernel ends a server when the thread that started it ends: the main thread is the last to do so.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	var err error
	if common, err = start("1GiB"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := common.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server is a real `bowstring serve` on free ports, stopped by its own process id.
type server struct {
	// address is where it speaks Flight, `HOST:PORT`.
	address string
	// http is its other address, a URL.
	http    string
	process *exec.Cmd
	log     *strings.Builder
}

// start returns once the server has said that it is ready.
func start(memory string, flags ...string) (*server, error) {
	words := []string{"serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--memory", memory}
	s := &server{process: exec.Command(binary(), append(words, flags...)...), log: &strings.Builder{}}
	s.process.Stderr = s.log
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Settings of whoever runs the tests must not reach the server under test.
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "BOWSTRING_") {
			s.process.Env = append(s.process.Env, variable)
		}
	}
	output, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(output)
	for s.http == "" || s.address == "" {
		if !lines.Scan() {
			return nil, fmt.Errorf("the server ended before it was ready: %v\n%s", s.process.Wait(), s.log)
		}
		if address, ok := strings.CutPrefix(lines.Text(), "flight grpc://"); ok {
			s.address = address
		} else if address, ok := strings.CutPrefix(lines.Text(), "http "); ok {
			s.http = address
		}
	}
	return s, nil
}

// stop ends this one process; a server that failed or panicked is an error.
func (s *server) stop() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := s.process.Wait()
	if err != nil || strings.Contains(s.log.String(), "panicked") {
		return fmt.Errorf("the server ended badly: %v\n%s", err, s.log)
	}
	return nil
}

// gauge is one figure of /metrics, by its name behind `bowstring_`.
func (s *server) gauge(t *testing.T, name string) int {
	t.Helper()
	answer, err := http.Get(s.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "bowstring_"+name+" "); ok {
			value, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no gauge %s", name)
	return 0
}

// fresh is a server of one test's own.
func fresh(t *testing.T, memory string, flags ...string) *server {
	t.Helper()
	s, err := start(memory, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// binary is the server that `tests/run` built; BOWSTRING_BIN names another one.
func binary() string {
	if path := os.Getenv("BOWSTRING_BIN"); path != "" {
		return path
	}
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(repository(), "target")
	}
	return filepath.Join(target, "debug", "bowstring")
}

func repository() string {
	_, here, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(here)))
}

func TestAUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	s := spaceOf(t, fresh(t, "64MiB", "--listen", "unix:"+socket))
	client, err := connect("unix:" + socket)
	s.must(err)
	defer client.Close()
	one := sample("int8", 3)
	_, err = put(t.Context(), client, path("a"), one.schema(), one.batch(one.schema()))
	s.must(err)
	schema, chunks, err := get(t.Context(), client, `{"key": "a"}`)
	s.must(err)
	if got := tensorOf(schema, chunks); !got.same(one) {
		t.Error("another tensor")
	}
}
