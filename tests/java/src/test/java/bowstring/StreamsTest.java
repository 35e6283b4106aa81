package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.CallOptions;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.SyncPutListener;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Calls that end before their streams do, each on a server of its own, whose memory must come back. */
class StreamsTest extends Space {
  private Server server;

  @Override
  String address() throws Exception {
    server = new Server("256MiB");
    return server.flight;
  }

  @AfterEach
  void stop() throws Exception {
    client.close();
    server.close();
  }

  private FlightStream begin(CallOption... options) throws Exception {
    put(to("key", "a"), Tensor.sample("float32", 4096, 4096));
    FlightStream stream = client.getStream(new Ticket(Calls.text(in("key", "a")).getBytes()), options);
    assertTrue(stream.next());
    act("delete", "keys", List.of("a"));
    // What has not been sent is held for the reader, though the entry is gone.
    assertTrue(server.gauge("readers_held_bytes") > 16 << 20);
    return stream;
  }

  private static void drain(FlightStream stream) {
    while (stream.next()) {
      assertTrue(stream.getRoot().getRowCount() > 0);
    }
  }

  private void assertFreed() throws Exception {
    for (String gauge : List.of("readers_held_bytes", "reads_open", "puts_reserved_bytes", "arena_used_bytes")) {
      while (server.gauge(gauge) > 0) {
        Thread.sleep(10);
      }
    }
  }

  @Test
  void aReaderThatGoesAway() throws Exception {
    try (FlightStream stream = begin()) {
      stream.cancel("enough", null);
      FlightRuntimeException e = assertThrows(FlightRuntimeException.class, () -> drain(stream));
      assertEquals(FlightStatusCode.CANCELLED, e.status().code());
    }
    assertFreed();
    // To close it is enough.
    begin().close();
    assertFreed();
    put(to("key", "b"), Tensor.sample("int8", 3));
    assertSame(Tensor.sample("int8", 3), get("key", "b").tensor());
  }

  /** The client's own deadline is the client's own error: it has a status, and no code of the server's. */
  @Test
  void aDeadlineWhileReading() throws Exception {
    try (FlightStream stream = begin(CallOptions.timeout(3, TimeUnit.SECONDS))) {
      assertFreed();
      FlightRuntimeException e = assertThrows(FlightRuntimeException.class, () -> drain(stream));
      assertEquals(FlightStatusCode.TIMED_OUT, e.status().code());
      assertEquals("", Calls.codeOf(e));
    }
  }

  @Test
  void aPutThatIsGivenUp() throws Exception {
    try (VectorSchemaRoot root = Tensor.sample("float32", 1024, 1024).root(allocator);
        SyncPutListener replies = new SyncPutListener()) {
      FlightClient.ClientStreamListener writer = client.startPut(to("key", "a"), root, replies);
      for (int sent = 0; sent < 10; sent++) {
        writer.putNext();
      }
      while (server.gauge("arena_used_bytes") < 8 << 20) {
        Thread.sleep(10);
      }
      writer.error(new IllegalStateException("the rest cannot be read"));
      FlightRuntimeException e = assertThrows(FlightRuntimeException.class, writer::getResult);
      assertEquals(FlightStatusCode.CANCELLED, e.status().code());
    }
    assertFreed();
    assertFalse(act("exists", "keys", List.of("a")).at("/keys/0/found").asBoolean());
  }
}
