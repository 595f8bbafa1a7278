package io.markethistory.programs;

import io.markethistory.MarketHistoryClient;
import io.markethistory.Range;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Locale;
import java.util.function.LongSupplier;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.Location;
import org.apache.arrow.flight.Ticket;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.util.VectorSchemaRootAppender;

/**
 * Answers the benchmark of the clients; tests/clients/README.md says how.
 *
 * <pre>
 * bench history TARGET SERIES START END
 * bench flight TARGET TICKET
 * </pre>
 */
public final class Bench {

  /**
   * Reads once for each line of its input.
   *
   * @param args the peer, and where and what to read
   * @throws IOException if the input cannot be read
   */
  public static void main(String[] args) throws IOException {
    var read = "history".equals(args[0]) ? history(args) : flight(args);
    System.out.println("ready");
    var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    while (input.readLine() != null) {
      var began = System.nanoTime();
      var rows = read.getAsLong();
      var seconds = (System.nanoTime() - began) / 1e9;
      System.out.printf(Locale.ROOT, "{\"rows\": %d, \"seconds\": %.6f}%n", rows, seconds);
    }
  }

  private static LongSupplier history(String[] args) {
    var client = MarketHistoryClient.connect(args[1]);
    var window = Range.of(args[3], args[4]);
    return () -> {
      try (var rows = client.read(args[2], window)) {
        return rows.root().getRowCount();
      }
    };
  }

  /**
   * Arrow's own client, as its documentation shows it; the rows are put into one root as ours are.
   */
  @SuppressWarnings("try") // that a close may be interrupted is no concern here
  private static LongSupplier flight(String[] args) {
    var allocator = new RootAllocator();
    var host = args[1].substring(0, args[1].lastIndexOf(':'));
    var port = Integer.parseInt(args[1].substring(args[1].lastIndexOf(':') + 1));
    var client = FlightClient.builder(allocator, Location.forGrpcInsecure(host, port)).build();
    var ticket = new Ticket(args[2].getBytes(StandardCharsets.UTF_8));
    return () -> {
      try (var stream = client.getStream(ticket);
          var all = VectorSchemaRoot.create(stream.getSchema(), allocator)) {
        all.allocateNew();
        while (stream.next()) {
          VectorSchemaRootAppender.append(all, stream.getRoot());
        }
        return all.getRowCount();
      } catch (Exception failure) {
        throw new IllegalStateException(failure);
      }
    };
  }

  private Bench() {}
}
