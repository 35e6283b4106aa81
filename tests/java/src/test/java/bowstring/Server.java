package bowstring;

import java.io.BufferedReader;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** A real `bowstring serve` on free ports, which ends with whoever started it. */
final class Server implements AutoCloseable {
  private static Server common;

  /** Ends the server when its input does, so also when this machine is killed; its exit code is the server's. */
  private static final String KEEPER =
      "\"$@\" </dev/null & server=$!; exec >&-; cat >/dev/null; kill $server; wait $server";

  private final Process process;
  private final Path log;

  /** Where it speaks Flight, as it printed it: `grpc://HOST:PORT`. */
  final String flight;

  /** Its other address, a URL. */
  final String http;

  /** The server of most tests; one that looks at memory starts its own. It ends when this machine does. */
  static synchronized Server common() throws IOException {
    if (common == null) {
      common = new Server("1GiB");
    }
    return common;
  }

  /** On a port that is free. */
  Server(String memory) throws IOException {
    this(memory, "127.0.0.1:0");
  }

  /** Returns once the server has said that it is ready. */
  Server(String memory, String listen) throws IOException {
    log = Files.createTempFile("bowstring-", ".log");
    List<String> words = new ArrayList<>(List.of("sh", "-c", KEEPER, "sh", binary().toString(), "serve"));
    words.addAll(List.of("--memory", memory, "--listen", listen, "--http", "127.0.0.1:0"));
    ProcessBuilder builder = new ProcessBuilder(words).redirectError(log.toFile());
    // Settings of whoever runs the tests must not reach the server under test.
    builder.environment().keySet().removeIf(name -> name.startsWith("BOWSTRING_"));
    process = builder.start();
    String flight = null;
    String http = null;
    BufferedReader lines = process.inputReader();
    while (flight == null || http == null) {
      String line = lines.readLine();
      if (line == null) {
        throw new IOException("the server ended before it was ready:\n" + Files.readString(log));
      } else if (line.startsWith("flight ")) {
        flight = line.substring("flight ".length());
      } else if (line.startsWith("http ")) {
        http = line.substring("http ".length());
      }
    }
    this.flight = flight;
    this.http = http;
  }

  /** One figure of /metrics, by its name behind `bowstring_`. */
  long gauge(String name) throws IOException, InterruptedException {
    HttpRequest request = HttpRequest.newBuilder(URI.create(http + "/metrics")).build();
    String text = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    String line = text.lines().filter(each -> each.startsWith("bowstring_" + name + " ")).findFirst().orElseThrow();
    return Long.parseLong(line.substring(line.indexOf(' ') + 1));
  }

  /** Ends this one process; one that failed or panicked is an error. */
  @Override
  public void close() throws IOException, InterruptedException {
    process.getOutputStream().close();
    int code = process.waitFor();
    String said = Files.readString(log);
    Files.delete(log);
    if (code != 0 || said.contains("panicked")) {
      throw new IOException("the server ended with " + code + ":\n" + said);
    }
  }

  static Path repository() {
    // Maven's working directory is the folder of the pom.
    return Path.of("").toAbsolutePath().getParent().getParent();
  }

  /** The server that `tests/run` built; BOWSTRING_BIN names another one. */
  private static Path binary() {
    String target = System.getenv().getOrDefault("CARGO_TARGET_DIR", repository().resolve("target").toString());
    return Path.of(System.getenv().getOrDefault("BOWSTRING_BIN", target + "/debug/bowstring"));
  }
}
