package bowstring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// object is a ticket, a command or a body: JSON.
type object = map[string]any

// snippet: connect
func connect(address string, options ...grpc.DialOption) (flight.Client, error) {
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	return flight.NewClientWithMiddleware(address, nil, nil, append(options, plain)...)
}

// snippet end

// snippet: put
// putResult is what the server says at the end of a put.
type putResult struct {
	Stored, Existed, Bytes int64
	Version                string
	Errors                 []struct {
		Row                int64
		Key, Code, Message string
	}
	ErrorsTotal int64 `json:"errors_total"`
}

// put sends the batches and returns the one PutResult. Without a batch it is a tensor with a leading axis of 0.
func put(ctx context.Context, client flight.Client, where *flight.FlightDescriptor, schema *arrow.Schema, batches ...arrow.RecordBatch) (result putResult, err error) {
	// A put that ends without CloseSend is cancelled here, and nothing of one tensor is stored.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.DoPut(ctx)
	if err != nil {
		return result, err
	}
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	writer.SetFlightDescriptor(where)
	for _, batch := range batches {
		if err = writer.Write(batch); err != nil {
			break
		}
	}
	if err == nil {
		err = writer.Close() // sends the schema, if nothing else has
	}
	if err == nil {
		err = stream.CloseSend()
	}
	// io.EOF says that the server has ended the call already: it is Recv that says why.
	if err != nil && !errors.Is(err, io.EOF) {
		return result, err
	}
	reply, err := stream.Recv()
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(reply.AppMetadata, &result); err != nil {
		return result, err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return result, err
	}
	return result, nil
}

// snippet end

// snippet: get
// chunk is a batch with the JSON that came beside it, if any.
type chunk struct {
	arrow.RecordBatch
	said []byte
}

// get reads a whole stream: the tensor's dtype, shape and metadata are in the schema's.
func get(ctx context.Context, client flight.Client, ticket string) (*arrow.Schema, []chunk, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.DoGet(ctx, &flight.Ticket{Ticket: []byte(ticket)})
	if err != nil {
		return nil, nil, err
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return nil, nil, err
	}
	defer reader.Release()
	var chunks []chunk
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		chunks = append(chunks, chunk{batch, reader.LatestAppMetadata()})
	}
	return reader.Schema(), chunks, reader.Err()
}

// snippet end

// act calls one action: JSON in, JSON out.
func act(ctx context.Context, client flight.Client, name string, body any) (map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	stream, err := client.DoAction(ctx, &flight.Action{Type: name, Body: text})
	if err != nil {
		return nil, err
	}
	result, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	var reply map[string]any
	if err := json.Unmarshal(result.Body, &reply); err != nil {
		return nil, err
	}
	return reply, flight.ReadUntilEOF(stream)
}

// snippet: code
var serverCodes = strings.Fields(`not_found already_exists invalid_argument resource_exhausted failed_precondition not_modified
	moved unauthenticated permission_denied unavailable deadline_exceeded cancelled unimplemented data_loss internal`)

// codeOf gives the server's code and its sentence. An error that the client made itself, such as that of its own deadline
// or of its own limit, has no code of the server's: look at its gRPC status.
func codeOf(err error) (code, message string) {
	// Not status.FromError: where an error is wrapped, it puts the wrapper's words before the server's.
	var failed interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &failed) {
		return "", err.Error()
	}
	message = failed.GRPCStatus().Message()
	if code, _, _ = strings.Cut(message, ":"); !slices.Contains(serverCodes, code) {
		code = ""
	}
	return code, message
}

// snippet end

func path(parts ...string) *flight.FlightDescriptor {
	return &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: parts}
}

func command(members object) *flight.FlightDescriptor {
	return &flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: encoded(members)}
}

func encoded(members object) []byte {
	text, err := json.Marshal(members)
	if err != nil {
		panic(err)
	}
	return text
}

// space is a client with a namespace that no other test uses. Its methods fail the test where the call fails.
type space struct {
	*testing.T
	client    flight.Client
	namespace string
	server    *server
}

// covered writes down that the test had tensors of a dtype, for tests/run, which looks whether the table of docs/clients is true.
func (s *space) covered(file, dtype string) {
	s.Helper()
	path := os.Getenv("COVERED")
	if path == "" || s.Failed() {
		return
	}
	all, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		s.Fatal(err)
	}
	defer all.Close()
	if _, err := fmt.Fprintf(all, "tests/go/%s: %s: %s\n", file, s.Name(), dtype); err != nil {
		s.Fatal(err)
	}
}

func newSpace(t *testing.T) *space { return spaceOf(t, common) }

func spaceOf(t *testing.T, server *server, options ...grpc.DialOption) *space {
	t.Helper()
	client, err := connect(server.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	name := regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString("go."+t.Name(), "-")
	return &space{t, client, name[max(0, len(name)-128):], server}
}

// within is the members with this namespace, where they name no other.
func (s *space) within(members object) object {
	all := object{"namespace": s.namespace}
	for name, value := range members {
		all[name] = value
	}
	return all
}

func (s *space) try(where *flight.FlightDescriptor, tensors ...tensor) (putResult, error) {
	schema := tensors[0].schema()
	var batches []arrow.RecordBatch
	for _, one := range tensors {
		batches = append(batches, one.batch(schema))
	}
	return put(s.Context(), s.client, where, schema, batches...)
}

func (s *space) put(key string, tensor tensor) putResult {
	s.Helper()
	return s.putAs(object{"key": key}, tensor)
}

func (s *space) putAs(members object, tensor tensor) putResult {
	s.Helper()
	result, err := s.try(command(s.within(members)), tensor)
	s.must(err)
	return result
}

func (s *space) get(members object) (*arrow.Schema, []chunk) {
	s.Helper()
	schema, chunks, err := s.tryGet(members)
	s.must(err)
	return schema, chunks
}

func (s *space) tryGet(members object) (*arrow.Schema, []chunk, error) {
	return get(s.Context(), s.client, string(encoded(s.within(members))))
}

func (s *space) act(name string, members object) object {
	s.Helper()
	reply, err := act(s.Context(), s.client, name, s.within(members))
	s.must(err)
	return reply
}

// stats is what the server says of itself, as deep as the path goes.
func (s *space) stat(path ...string) float64 {
	s.Helper()
	reply, err := act(s.Context(), s.client, "stats", object{})
	s.must(err)
	var at any = reply
	for _, name := range path {
		at = at.(object)[name]
	}
	return at.(float64)
}

func (s *space) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// refused wants this code at the beginning of the message, the gRPC status that goes with it, and these words.
func (s *space) refused(err error, code string, fragments ...string) {
	s.Helper()
	if err == nil {
		s.Fatalf("no error where %s was expected", code)
	}
	found, message := codeOf(err)
	if found != code {
		s.Fatalf("expected %s, got %v", code, err)
	}
	if got, want := status.Code(err), statuses[code]; got != want {
		s.Errorf("%s came with the status %v, not %v", code, got, want)
	}
	for _, fragment := range fragments {
		if !strings.Contains(message, fragment) {
			s.Errorf("expected %q in %q", fragment, message)
		}
	}
}

var statuses = map[string]codes.Code{
	"not_found":           codes.NotFound,
	"already_exists":      codes.AlreadyExists,
	"invalid_argument":    codes.InvalidArgument,
	"resource_exhausted":  codes.ResourceExhausted,
	"failed_precondition": codes.FailedPrecondition,
	"not_modified":        codes.FailedPrecondition,
	"unavailable":         codes.Unavailable,
	"deadline_exceeded":   codes.DeadlineExceeded,
	"unimplemented":       codes.Unimplemented,
	"data_loss":           codes.DataLoss,
}
