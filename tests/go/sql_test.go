package bowstring

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	_ "github.com/apache/arrow-go/v18/arrow/flight/flightsql/driver"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// asking is a space with six entries, and a client of Flight SQL.
type asking struct {
	*space
	sql *flightsql.Client
}

func newAsking(t *testing.T) *asking {
	t.Helper()
	s := newSpace(t)
	s.bulk(nil, keyed([]string{"a", "ab", "abc", "b", "ba", "c"}, sample("float32", 6, 4)))
	client, err := flightsql.NewClient(s.server.address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	s.must(err)
	t.Cleanup(func() { client.Close() })
	return &asking{s, client}
}

// read is the one stream of an answer, which must be of the schema that was said.
func (s *asking) read(info *flight.FlightInfo, err error) []arrow.RecordBatch {
	s.Helper()
	s.must(err)
	if len(info.Endpoint) != 1 || len(info.Endpoint[0].Location) != 0 {
		s.Fatalf("expected one endpoint of this connection, got %v", info.Endpoint)
	}
	said, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator)
	s.must(err)
	reader, err := s.sql.DoGet(s.Context(), info.Endpoint[0].Ticket)
	s.must(err)
	defer reader.Release()
	if !reader.Schema().Equal(said) {
		s.Errorf("said %v, sent %v", said, reader.Schema())
	}
	var batches []arrow.RecordBatch
	for reader.Next() {
		batch := reader.RecordBatch()
		batch.Retain()
		batches = append(batches, batch)
	}
	s.must(reader.Err())
	return batches
}

// column is one of an answer's, as text.
func column(batches []arrow.RecordBatch, at int) (cells []string) {
	for _, batch := range batches {
		for row := range int(batch.NumRows()) {
			cells = append(cells, batch.Column(at).ValueStr(row))
		}
	}
	return cells
}

func (s *asking) wants(got []string, expected ...string) {
	s.Helper()
	if !slices.Equal(got, expected) {
		s.Errorf("expected %q, got %q", expected, got)
	}
}

func (s *asking) keys() []string {
	s.Helper()
	text := fmt.Sprintf("SELECT key FROM tensors WHERE namespace = '%s' ORDER BY key", s.namespace)
	return column(s.read(s.sql.Execute(s.Context(), text)), 0)
}

func TestSQLStatement(t *testing.T) {
	s := newAsking(t)
	text := fmt.Sprintf("SELECT * FROM tensors WHERE namespace = '%s' AND key = 'abc'", s.namespace)
	batches := s.read(s.sql.Execute(s.Context(), text))
	if len(batches) != 1 || batches[0].NumRows() != 1 || batches[0].NumCols() != 17 {
		t.Fatalf("expected a row of 17 columns, got %v", batches)
	}
	value := batches[0].Column(16).(*array.Struct)
	data := value.Field(2).(*array.BinaryView).Value(0)
	if !bytes.Equal(data, sample("float32", 6, 4).cell(2).data) {
		t.Error("another tensor")
	}
	s.wants(column(batches, 4), "[4]")
	schema, err := s.sql.GetExecuteSchema(s.Context(), text)
	s.must(err)
	said, err := flight.DeserializeSchema(schema.Schema, memory.DefaultAllocator)
	s.must(err)
	if !said.Equal(batches[0].Schema()) {
		t.Errorf("GetSchema said %v", said)
	}
	s.wants(column(s.read(s.sql.Execute(s.Context(), "SELECT key FROM tensors WHERE false")), 0))
}

func TestSQLPrepared(t *testing.T) {
	s := newAsking(t)
	statement, err := s.sql.Prepare(s.Context(), "SELECT key FROM tensors WHERE namespace = ? AND key > ? ORDER BY key LIMIT ?")
	s.must(err)
	if update, known := statement.IsUpdate(); known && update {
		t.Error("a query is said to be an update")
	}
	parameters := statement.ParameterSchema()
	if got := fmt.Sprint(parameters.Field(0).Type, parameters.Field(1).Type, parameters.Field(2).Type); got != "utf8 utf8 int64" {
		t.Errorf("parameters of types %s", got)
	}
	for _, each := range []struct {
		after    string
		limit    int64
		expected []string
	}{{"ab", 2, []string{"abc", "b"}}, {"b", 9, []string{"ba", "c"}}} {
		builder := array.NewRecordBuilder(memory.DefaultAllocator, parameters)
		builder.Field(0).(*array.StringBuilder).Append(s.namespace)
		builder.Field(1).(*array.StringBuilder).Append(each.after)
		builder.Field(2).(*array.Int64Builder).Append(each.limit)
		statement.SetParameters(builder.NewRecordBatch())
		s.wants(column(s.read(statement.Execute(s.Context())), 0), each.expected...)
	}
	s.must(statement.Close(s.Context()))
	_, err = statement.Execute(s.Context())
	if err == nil {
		t.Error("a statement was run that is closed")
	}
}

func TestSQLUpdates(t *testing.T) {
	s := newAsking(t)
	where := fmt.Sprintf(" WHERE namespace = '%s' AND key ", s.namespace)
	for text, expected := range map[string]int64{
		"UPDATE tensors SET pinned = true" + where + "LIKE 'a%'": 3,
		"DELETE FROM tensors" + where + "= 'c'":                  1,
		"DELETE FROM tensors WHERE false":                        0,
	} {
		changed, err := s.sql.ExecuteUpdate(s.Context(), text)
		s.must(err)
		if changed != expected {
			t.Errorf("%s changed %d, not %d", text, changed, expected)
		}
	}
	statement, err := s.sql.Prepare(s.Context(), "DELETE FROM tensors WHERE namespace = ? AND key = ?")
	s.must(err)
	defer statement.Close(s.Context())
	rows := array.NewRecordBatch(statement.ParameterSchema(), []arrow.Array{
		texts(s.namespace, s.namespace, s.namespace), texts("a", "none", "ba"),
	}, 3)
	statement.SetParameters(rows)
	changed, err := statement.ExecuteUpdate(s.Context())
	s.must(err)
	if changed != 2 {
		t.Errorf("%d were deleted", changed)
	}
	s.wants(s.keys(), "ab", "abc", "b")
	_, err = s.sql.ExecuteUpdate(s.Context(), "DELETE FROM tensors")
	s.refused(err, "invalid_argument", "WHERE true")
	_, err = s.sql.ExecuteUpdate(s.Context(), "SELECT 1")
	s.refused(err, "invalid_argument", "changes nothing")
}

func TestSQLCatalogue(t *testing.T) {
	s := newAsking(t)
	ctx := s.Context()
	s.wants(column(s.read(s.sql.GetCatalogs(ctx)), 0), "bowstring")
	s.wants(column(s.read(s.sql.GetDBSchemas(ctx, &flightsql.GetDBSchemasOpts{})), 1), "cache", "information_schema", "ns")
	s.wants(column(s.read(s.sql.GetTableTypes(ctx)), 0), "TABLE", "VIEW")
	schema, name := "cache", "t%"
	tables := s.read(s.sql.GetTables(ctx, &flightsql.GetTablesOpts{
		DbSchemaFilterPattern: &schema, TableNameFilterPattern: &name, TableTypes: []string{"TABLE"}, IncludeSchema: true,
	}))
	s.wants(column(tables, 2), "tensors")
	columns, err := flight.DeserializeSchema(tables[0].Column(4).(*array.Binary).Value(0), memory.DefaultAllocator)
	s.must(err)
	if columns.NumFields() != 17 || columns.Field(16).Name != "value" {
		t.Errorf("tensors has the columns %v", columns)
	}
	if types := column(s.read(s.sql.GetXdbcTypeInfo(ctx, nil)), 0); !slices.Contains(types, "TIMESTAMP") {
		t.Errorf("types %q", types)
	}
	varchar := int32(12)
	s.wants(column(s.read(s.sql.GetXdbcTypeInfo(ctx, &varchar)), 0), "VARCHAR")
	one, other := flightsql.TableRef{Table: "tensors"}, flightsql.TableRef{Table: "namespaces"}
	s.wants(column(s.read(s.sql.GetPrimaryKeys(ctx, one)), 0))
	s.wants(column(s.read(s.sql.GetImportedKeys(ctx, one)), 0))
	s.wants(column(s.read(s.sql.GetExportedKeys(ctx, one)), 0))
	s.wants(column(s.read(s.sql.GetCrossReference(ctx, one, other)), 0))
	infos := s.read(s.sql.GetSqlInfo(ctx, []flightsql.SqlInfo{flightsql.SqlInfoFlightSqlServerName, flightsql.SqlInfoFlightSqlServerSql}))
	values := infos[0].Column(1).(*array.DenseUnion)
	said := map[string]string{}
	for row, info := range column(infos, 0) {
		said[info] = values.Field(values.ChildID(row)).ValueStr(int(values.ValueOffset(row)))
	}
	if len(said) != 2 || said["0"] != "Bowstring" || said["4"] != "true" {
		t.Errorf("infos %v", said)
	}
}

func TestSQLErrors(t *testing.T) {
	s := newAsking(t)
	_, err := s.sql.Execute(s.Context(), "SELECT nothing FROM tensors")
	s.refused(err, "invalid_argument", "No field named nothing")
	_, err = s.sql.Prepare(s.Context(), "DROP TABLE tensors")
	s.refused(err, "unimplemented", "SQL does not do that here")
	_, err = s.sql.BeginTransaction(s.Context())
	s.refused(err, "unimplemented")
}

func TestSQLGuide(t *testing.T) {
	s := newAsking(t)
	ctx, address, namespace := t.Context(), s.server.address, s.namespace
	// snippet: flightsql
	client, err := flightsql.NewClient(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	info, err := client.Execute(ctx, "SELECT dtype, count(*) FROM tensors GROUP BY dtype")
	if err != nil {
		t.Fatal(err)
	}
	reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Release()
	for reader.Next() {
		fmt.Println(reader.RecordBatch())
	}
	// snippet end
	s.must(reader.Err())

	// snippet: database-sql
	db, err := sql.Open("flightsql", "flightsql://"+address+"?timeout=60s")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT key, bytes, created_at FROM tensors WHERE namespace = ? LIMIT ?", namespace, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key string
		var bytes int64
		var created time.Time
		if err := rows.Scan(&key, &bytes, &created); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	// snippet end
	s.must(rows.Err())
	s.wants(keys, "a", "ab", "abc", "b", "ba", "c")
}

func TestSQLByDatabaseSQL(t *testing.T) {
	s := newAsking(t)
	db, err := sql.Open("flightsql", "flightsql://"+s.server.address+"?timeout=240s")
	s.must(err)
	defer db.Close()
	s.must(db.PingContext(s.Context()))
	var entries, size int64
	var last sql.NullTime
	row := db.QueryRow("SELECT count(*), sum(bytes), max(expires_at) FROM tensors WHERE namespace = ?", s.namespace)
	s.must(row.Scan(&entries, &size, &last))
	if entries != 6 || size != 96 || last.Valid {
		t.Errorf("%d entries of %d bytes, the last until %v", entries, size, last)
	}
	statement, err := db.Prepare("DELETE FROM tensors WHERE namespace = ? AND key = ?")
	s.must(err)
	defer statement.Close()
	for key, expected := range map[string]int64{"a": 1, "none": 0, "c": 1} {
		result, err := statement.Exec(s.namespace, key)
		s.must(err)
		if changed, err := result.RowsAffected(); err != nil || changed != expected {
			t.Errorf("%s: %d were deleted, %v", key, changed, err)
		}
	}
	s.wants(s.keys(), "ab", "abc", "b", "ba")
	result, err := db.Exec("UPDATE tensors SET pinned = ? WHERE namespace = ?", true, s.namespace)
	s.must(err)
	if changed, err := result.RowsAffected(); err != nil || changed != 4 {
		t.Errorf("%d were pinned, %v", changed, err)
	}
	var one string
	err = db.QueryRow("SELECT key FROM tensors WHERE false").Scan(&one)
	if !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("no row was %v", err)
	}
	err = db.QueryRow("SELECT nothing FROM tensors").Scan(&one)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("No field named nothing")) {
		t.Errorf("the error says %v", err)
	}
}

func TestSQLIsCancelledByItsContext(t *testing.T) {
	s := newAsking(t)
	ctx, cancel := context.WithCancel(s.Context())
	info, err := s.sql.Execute(ctx, "SELECT * FROM generate_series(1, 1000000000000)")
	s.must(err)
	reader, err := s.sql.DoGet(ctx, info.Endpoint[0].Ticket)
	s.must(err)
	defer reader.Release()
	if !reader.Next() {
		t.Fatalf("no row: %v", reader.Err())
	}
	cancel()
	for reader.Next() {
	}
	if reader.Err() == nil {
		t.Error("an endless answer has ended well")
	}
	s.wants(s.keys(), "a", "ab", "abc", "b", "ba", "c")
}
