package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.function.BooleanSupplier;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class LargeTest extends Space {
  private Server server;

  @Override
  String address() throws Exception {
    server = new Server("512MiB");
    return server.flight;
  }

  @AfterEach
  void stop() throws Exception {
    client.close();
    server.close();
  }

  /** Compares batch by batch, so that the heap need not hold the tensor twice; gives the number of batches. */
  private int assertStreams(Tensor one, FlightClient client, Object... members) throws Exception {
    int[] seen = {0, 0};
    Calls.get(
        client,
        Calls.text(in(members)),
        (batch, said) -> {
          byte[] part = Tensor.values(batch.getVector("tensor"));
          assertTrue(Arrays.equals(part, 0, part.length, one.data(), seen[0], seen[0] + part.length), "at " + seen[0]);
          seen[0] += part.length;
          seen[1]++;
        });
    assertEquals(one.data().length, seen[0]);
    return seen[1];
  }

  /** In rows of 4 KiB: no option has to be set for it, neither way. */
  @Test
  void of64MiB() throws Exception {
    Tensor one = Tensor.sample("float32", 16 << 10, 1024);
    put(to("key", "whole"), one);
    try (VectorSchemaRoot root = VectorSchemaRoot.create(one.schema(), allocator)) {
      int[] at = {0};
      BooleanSupplier next =
          () -> {
            if (at[0] == 16 << 10) {
              return false;
            }
            one.rows(at[0], at[0] += 256).load(root, allocator);
            return true;
          };
      Calls.put(client, to("key", "parts"), root, new DictionaryProvider.MapDictionaryProvider(), next);
    }
    for (String key : List.of("whole", "parts")) {
      assertTrue(assertStreams(one, client, "key", key) >= 64 / 16, "too few messages");
    }
  }

  /** A row is sent whole. Java's client has no limit of its own, so it takes that too. */
  @Test
  void aRowOf64MiB() throws Exception {
    Tensor one = Tensor.sample("float32", 1, 4096, 4096);
    put(to("key", "a"), one);
    assertEquals(1, assertStreams(one, client, "key", "a"));
  }

  /** Where a limit is set, a larger row is refused by the client; the flat layout can be cut anywhere. */
  @Test
  void aLimitOfTheClients() throws Exception {
    Tensor one = Tensor.sample("float32", 1, 4096, 1024);
    put(to("key", "a"), one);
    Location location = new Location(server.flight.replace("grpc://", "grpc+tcp://"));
    try (FlightClient limited = FlightClient.builder(allocator, location).maxInboundMessageSize(4 << 20).build()) {
      FlightRuntimeException e =
          assertThrows(FlightRuntimeException.class, () -> read(limited, Calls.text(in("key", "a"))));
      assertEquals(FlightStatusCode.RESOURCE_EXHAUSTED, e.status().code());
      assertEquals("", Calls.codeOf(e));
      assertStreams(one, limited, "key", "a", "layout", "flat");
    }
  }

  /** The client reads five messages ahead, which its allocator must have room for. */
  @Test
  void aLimitOfTheAllocators() throws Exception {
    Tensor one = Tensor.sample("float32", 16 << 10, 1024);
    put(to("key", "a"), one);
    try (BufferAllocator small = allocator.newChildAllocator("small", 0, 24 << 20);
        FlightClient limited = Calls.connect(server.flight, small)) {
      assertStreams(one, limited, "key", "a", "max_message_bytes", 2 << 20);
    }
    try (BufferAllocator tiny = allocator.newChildAllocator("tiny", 0, 1 << 20);
        FlightClient limited = Calls.connect(server.flight, tiny)) {
      FlightRuntimeException e =
          assertThrows(FlightRuntimeException.class, () -> read(limited, Calls.text(in("key", "a"))));
      assertEquals("CANCELLED Failed to read message.", e.status().code() + " " + e.status().description());
    }
  }

  @Test
  void moreThanTheMemory() throws Exception {
    refused("resource_exhausted", () -> put(to("key", "a", "size_bytes", 1L << 30), Tensor.sample("uint8", 3)));
  }
}
