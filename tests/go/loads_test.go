package bowstring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
)

// snippet: load
// load puts rows that become visible all at once, or not at all; where a row is bad it is aborted.
func load(ctx context.Context, client flight.Client, namespace string, replaceAll bool, rows ...arrow.RecordBatch) (id string, err error) {
	begun, err := act(ctx, client, "begin_load", object{"namespace": namespace, "replace_all": replaceAll})
	if err != nil {
		return "", err
	}
	id = begun["load_id"].(string)
	result, err := put(ctx, client, command(object{"namespace": namespace, "load_id": id}), rows[0].Schema(), rows...)
	if err == nil && result.ErrorsTotal > 0 {
		err = fmt.Errorf("row %d: %s", result.Errors[0].Row, result.Errors[0].Message)
	}
	if err != nil {
		_, aborted := act(ctx, client, "abort_load", object{"load_id": id})
		return id, errors.Join(err, aborted)
	}
	// All three can be sent again where no answer came. Until something else is committed, rollback_load takes it back.
	_, err = act(ctx, client, "commit_load", object{"load_id": id})
	return id, err
}

// snippet end

func (s *space) keys() []string {
	_, chunks := s.get(object{"prefix": ""})
	return keysOf(chunks)
}

func TestALoadShowsAtOnce(t *testing.T) {
	for _, replaceAll := range []bool{false, true} {
		s, all := filled(t)
		others := sample("float32", 3, 2, 3)
		id := s.act("begin_load", object{"replace_all": replaceAll})["load_id"].(string)
		if s.bulk(object{"load_id": id}, keyed([]string{"b", "e"}, others.rows(0, 2))).Stored != 2 {
			t.Error("b is not the load's own yet")
		}
		s.putAs(object{"key": "f", "load_id": id}, others.cell(2))
		if got := s.keys(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
			t.Errorf("before the commit: %v", got)
		}
		if got := tensorOf(s.get(object{"key": "b"})); !got.same(all.cell(1)) {
			t.Error("b has changed before the commit")
		}
		committed, err := act(t.Context(), s.client, "commit_load", object{"load_id": id})
		s.must(err)
		if committed["entries"] != 3.0 || committed["bytes"] != 72.0 {
			t.Errorf("%v", committed)
		}
		want := []string{"a", "b", "c", "d", "e", "f"}
		if replaceAll {
			want = []string{"b", "e", "f"}
		}
		if got := s.keys(); !slices.Equal(got, want) {
			t.Errorf("after the commit: %v", got)
		}
		if got := tensorOf(s.get(object{"key": "b"})); !got.same(others.cell(0)) {
			t.Error("the load has not won")
		}
		s.act("clear", object{"confirm": true})
	}
}

func TestRollbackAndAbort(t *testing.T) {
	s, all := filled(t)
	id, err := load(t.Context(), s.client, s.namespace, true, keyed([]string{"a", "x"}, sample("float32", 2, 2, 3)))
	s.must(err)
	if got := s.keys(); !slices.Equal(got, []string{"a", "x"}) {
		t.Errorf("%v", got)
	}
	s.act("rollback_load", object{"load_id": id})
	if got := s.keys(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("after the rollback: %v", got)
	}
	if got := tensorOf(s.get(object{"key": "a"})); !got.same(all.cell(0)) {
		t.Error("another tensor than before")
	}
	_, err = act(t.Context(), s.client, "commit_load", object{"load_id": id})
	s.refused(err, "failed_precondition", "rolled back")

	id = s.act("begin_load", nil)["load_id"].(string)
	s.putAs(object{"key": "y", "load_id": id}, all.cell(0))
	s.act("abort_load", object{"load_id": id})
	_, err = s.try(command(s.within(object{"key": "z", "load_id": id})), all.cell(0))
	s.refused(err, "failed_precondition", "aborted")
	if got := s.keys(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("after the abort: %v", got)
	}
}

// A bad row does not end the put; who wants all or nothing looks at the PutResult and aborts.
func TestABadRowAbortsTheLoad(t *testing.T) {
	s, _ := filled(t)
	id, err := load(t.Context(), s.client, s.namespace, false, keyed([]string{"x", ""}, sample("int8", 2, 2)))
	if err == nil || !strings.Contains(err.Error(), "row 1: ") {
		t.Error(err)
	}
	_, err = act(t.Context(), s.client, "commit_load", object{"load_id": id})
	s.refused(err, "failed_precondition", "aborted")
	if got := s.keys(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("%v", got)
	}
}

func TestLoadsThatAreNone(t *testing.T) {
	s := newSpace(t)
	for _, action := range []string{"commit_load", "abort_load", "rollback_load"} {
		_, err := act(t.Context(), s.client, action, object{"load_id": "99-12345678"})
		s.refused(err, "not_found", "99-12345678")
	}
}
