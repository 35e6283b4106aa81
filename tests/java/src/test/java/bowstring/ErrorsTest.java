package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.stub.AbstractStub;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.CallHeaders;
import org.apache.arrow.flight.CallInfo;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.CallOptions;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightClientMiddleware;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.Location;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ErrorsTest extends Space {
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      emptyValue = "",
      value = {
        "''|invalid_argument",
        "{|invalid_argument",
        "{}|invalid_argument",
        "{\"key\": \"nobody has this\"}|not_found",
        "{\"key\": \"a\", \"key\": \"b\"}|invalid_argument",
        "{\"key\": \"a\", \"keys\": [\"b\"]}|invalid_argument",
        "{\"key\": \"a\", \"colour\": 1}|invalid_argument",
        "{\"namespace\": \"\", \"key\": \"a\"}|invalid_argument",
        "{\"prefix\": \"\", \"dtype\": \"float32\"}|invalid_argument",
        "{\"keys\": [\"a\"], \"missing\": \"maybe\"}|invalid_argument",
        "hello|invalid_argument",
      })
  void tickets(String ticket, String code) {
    refused(code, () -> read(client, ticket));
  }

  @Test
  void descriptors() {
    Tensor one = Tensor.sample("int8", 2, 3);
    List<FlightDescriptor> wrong =
        List.of(
            Calls.path(""),
            Calls.path("not legal", "k"),
            Calls.path("a", "b", "c"),
            Calls.command(Map.of()),
            to("key", ""),
            to("key", "a", "colour", 1),
            to("key", "a", "mode", "overwrite"));
    wrong.forEach(where -> refused("invalid_argument", () -> put(where, one)));
  }

  /** The code stands in the trailer, too; every answer says which version of the contract it speaks. */
  @Test
  void headersAndTrailers() throws Exception {
    Map<String, String> heard = new HashMap<>();
    FlightClientMiddleware.Factory listens =
        (CallInfo call) ->
            new FlightClientMiddleware() {
              @Override
              public void onBeforeSendingHeaders(CallHeaders headers) {}

              @Override
              public void onHeadersReceived(CallHeaders headers) {
                headers.keys().forEach(name -> heard.put(name, headers.get(name)));
              }

              @Override
              public void onCallCompleted(CallStatus status) {}
            };
    put(to("key", "a"), Tensor.sample("int8", 3));
    Location location = new Location(address().replace("grpc://", "grpc+tcp://"));
    try (FlightClient listening = FlightClient.builder(allocator, location).intercept(listens).build()) {
      read(listening, Calls.text(in("key", "a")));
      assertEquals("1", heard.get("bowstring-wire"));
      FlightRuntimeException e = refused("not_found", () -> read(listening, Calls.text(in("key", "no"))), "no");
      assertEquals("1", e.status().metadata().get("bowstring-wire"));
      assertEquals("not_found", e.status().metadata().get("bowstring-code"));
    }
  }

  /** FAILED_PRECONDITION and DATA_LOSS become others in Java: it is the code that tells what happened. */
  @Test
  void statusesThatJavaDoesNotHave() throws Exception {
    Tensor one = Tensor.sample("int8", 3);
    String version = put(to("key", "a"), one).get("version").asText();
    refused("not_modified", () -> get("key", "a", "unless_version", version));
    refused("failed_precondition", () -> get("key", "a", "version", "1"));
    refused("data_loss", () -> put(to("key", "b", "checksum", "0".repeat(32)), one));
  }

  private static final class Compressed implements CallOptions.GrpcCallOption {
    @Override
    public <T extends AbstractStub<T>> T wrapStub(T stub) {
      return stub.withCompression("gzip");
    }
  }

  @Test
  void compressionIsRefused() throws Exception {
    CallOption compressed = new Compressed();
    try (VectorSchemaRoot root = Tensor.sample("float32", 100, 10).root(allocator)) {
      DictionaryProvider none = new DictionaryProvider.MapDictionaryProvider();
      boolean[] sent = {false};
      refused(
          "unimplemented",
          () -> Calls.put(client, to("key", "a"), root, none, () -> !sent[0] && (sent[0] = true), compressed),
          "compress");
    }
    refused("not_found", () -> get("key", "a"));
  }

  @Test
  void aHandshakeIsNotBuilt() {
    FlightRuntimeException e =
        assertThrows(FlightRuntimeException.class, () -> client.authenticateBasicToken("user", "password"));
    assertEquals("unimplemented", Calls.codeOf(e), e.getMessage());
  }
}
