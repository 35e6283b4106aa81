package bowstring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.ManagedChannel;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.epoll.EpollDomainSocketChannel;
import io.netty.channel.epoll.EpollIoHandler;
import io.netty.channel.unix.DomainSocketAddress;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightGrpcUtils;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Sockets that are files. */
class SocketTest {
  // snippet: unix
  static ManagedChannel unix(String path, EventLoopGroup threads) {
    return NettyChannelBuilder.forAddress(new DomainSocketAddress(path))
        .channelType(EpollDomainSocketChannel.class)
        .eventLoopGroup(threads)
        .overrideAuthority("localhost")
        .usePlaintext()
        .build();
  }

  // snippet end

  @Test
  void aUnixSocket(@TempDir Path folder) throws Exception {
    String path = folder.resolve("s").toString();
    EventLoopGroup threads = new MultiThreadIoEventLoopGroup(1, EpollIoHandler.newFactory());
    ManagedChannel channel = unix(path, threads);
    try (Server server = new Server("64MiB", "unix:" + path);
        BufferAllocator allocator = new RootAllocator();
        FlightClient client = FlightGrpcUtils.createFlightClient(allocator, channel)) {
      Tensor one = Tensor.sample("float64", 3, 4);
      try (VectorSchemaRoot root = one.root(allocator)) {
        boolean[] sent = {false};
        Calls.put(client, Calls.path("a"), root, new DictionaryProvider.MapDictionaryProvider(), () -> !sent[0] && (sent[0] = true));
      }
      int[] rows = {0};
      Calls.get(client, Calls.text(Map.of("key", "a")), (batch, said) -> rows[0] += batch.getRowCount());
      assertEquals(3, rows[0]);
      assertEquals(1, Calls.act(client, "exists", Map.of("keys", List.of("a", "b"))).get("leading").asInt());
      // Its own way there takes the class of a channel for that of a server's.
      Location near = Location.forGrpcDomainSocket(path);
      assertThrows(ClassCastException.class, () -> FlightClient.builder(allocator, near).build());
    } finally {
      channel.shutdownNow().awaitTermination(1, TimeUnit.MINUTES);
      threads.shutdownGracefully().await();
    }
  }
}
