package bowstring;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.function.BooleanSupplier;
import org.apache.arrow.flight.Action;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.ErrorFlightMetadata;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.PutResult;
import org.apache.arrow.flight.Result;
import org.apache.arrow.flight.SyncPutListener;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;

/** The verbs, on a plain {@link FlightClient}; JSON in and out. */
final class Calls {
  static final ObjectMapper JSON = new ObjectMapper();

  private Calls() {}

  // snippet: connect
  /** The address is what the server prints, `grpc://HOST:PORT`; the client closes its own part of the allocator. */
  static FlightClient connect(String address, BufferAllocator allocator) throws Exception {
    return FlightClient.builder(allocator, new Location(address.replace("grpc://", "grpc+tcp://"))).build();
  }

  // snippet end

  // snippet: put
  /** Sends a batch whenever `next` has filled the root, until it says that there is none, and returns the PutResult. */
  static JsonNode put(
      FlightClient client,
      FlightDescriptor where,
      VectorSchemaRoot root,
      DictionaryProvider dictionaries,
      BooleanSupplier next,
      CallOption... options)
      throws InterruptedException {
    try (SyncPutListener replies = new SyncPutListener()) {
      FlightClient.ClientStreamListener writer = client.startPut(where, root, dictionaries, replies, options);
      try {
        // A server that refuses ends the call at once: then there is nobody to send more to.
        while (!replies.isCancelled() && next.getAsBoolean()) {
          writer.putNext();
        }
      } catch (RuntimeException e) {
        // What ends with completed() is a whole tensor to the server, however few batches came.
        writer.error(e);
        throw e;
      }
      writer.completed();
      try (PutResult reply = replies.read()) {
        JsonNode result = json(reply.getApplicationMetadata());
        writer.getResult();
        return result;
      } catch (ExecutionException e) {
        if (e.getCause() instanceof FlightRuntimeException refused) {
          throw refused;
        }
        throw new IllegalStateException(e);
      }
    }
  }

  // snippet end

  // snippet: json
  static JsonNode json(ArrowBuf buffer) {
    byte[] text = new byte[(int) buffer.readableBytes()];
    buffer.getBytes(buffer.readerIndex(), text);
    try {
      return JSON.readTree(text);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  // snippet end

  // snippet: get
  /** What is done with each batch: the root is the stream's own, and is filled anew for the next one. */
  interface Reader {
    void read(VectorSchemaRoot batch, JsonNode said);
  }

  /** Reads a whole stream; `said` is the JSON beside a batch, or null. */
  static void get(FlightClient client, String ticket, Reader reader, CallOption... options) throws Exception {
    try (FlightStream stream = client.getStream(new Ticket(ticket.getBytes(StandardCharsets.UTF_8)), options)) {
      while (stream.next()) {
        ArrowBuf said = stream.getLatestMetadata();
        reader.read(stream.getRoot(), said == null ? null : json(said));
      }
    }
  }

  // snippet end

  // snippet: act
  static JsonNode act(FlightClient client, String action, Map<String, ?> body) throws IOException {
    Iterator<Result> results = client.doAction(new Action(action, JSON.writeValueAsBytes(body)));
    JsonNode reply = JSON.readTree(results.next().getBody());
    results.forEachRemaining(more -> {});
    return reply;
  }

  // snippet end

  // snippet: code
  /** The server's code, such as `not_found`. An error that the client made itself, such as a deadline's, has none: "". */
  static String codeOf(FlightRuntimeException e) {
    ErrorFlightMetadata trailers = e.status().metadata();
    return trailers != null && trailers.containsKey("bowstring-code") ? trailers.get("bowstring-code") : "";
  }

  // snippet end

  static FlightDescriptor path(String... parts) {
    return FlightDescriptor.path(List.of(parts));
  }

  static FlightDescriptor command(Map<String, ?> members) {
    return FlightDescriptor.command(text(members).getBytes(StandardCharsets.UTF_8));
  }

  static String text(Map<String, ?> members) {
    try {
      return JSON.writeValueAsString(members);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
