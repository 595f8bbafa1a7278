package io.markethistory;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.UnknownFieldSet;
import io.grpc.HasByteBuffer;
import io.grpc.KnownLength;
import io.grpc.StatusRuntimeException;
import io.markethistory.v1.ReadRangeResponse;
import java.io.ByteArrayInputStream;
import java.io.FilterInputStream;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.Function;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Messages off the wire; protobuf's own parser says what is right. */
class FramesTest {

  private static final int ARROW_IPC_TAG = 0x2A;
  private static final ReadRangeResponse WHOLE =
      FakeHistory.messages(3).get(0).toBuilder().setUnknownFields(unknownFields()).build();
  private static final List<Function<byte[], InputStream>> STREAMS =
      List.of(Pieces::new, Whole::new, bytes -> new Unknown(new ByteArrayInputStream(bytes)));

  private final BufferAllocator allocator = new RootAllocator();
  private final Frames frames = new Frames(null, allocator);

  /** Throws if anything is left. */
  @AfterEach
  void close() {
    frames.close();
    allocator.close();
  }

  private static UnknownFieldSet unknownFields() {
    var field =
        UnknownFieldSet.Field.newBuilder()
            .addVarint(-1)
            .addFixed32(1)
            .addFixed64(2)
            .addLengthDelimited(ByteString.copyFromUtf8("newer"));
    var arrowIpc = UnknownFieldSet.Field.newBuilder().addLengthDelimited(ByteString.EMPTY);
    // A group may have a field of the same number, which is another field.
    var group = UnknownFieldSet.newBuilder().addField(5, arrowIpc.build()).build();
    return UnknownFieldSet.newBuilder().addField(77, field.addGroup(group).build()).build();
  }

  private static ReadRangeResponse arrow(String bytes) {
    return ReadRangeResponse.newBuilder().setArrowIpc(ByteString.copyFromUtf8(bytes)).build();
  }

  private static byte[] bytes(int... values) {
    var bytes = new byte[values.length];
    for (var index = 0; index < values.length; index++) {
      bytes[index] = (byte) values[index];
    }
    return bytes;
  }

  private ReadRangeResponse parsed(InputStream stream) {
    try (var frame = frames.taken(frames.parse(stream))) {
      var arrowIpc = new byte[(int) frame.arrowIpc().readableBytes()];
      frame.arrowIpc().getBytes(0, arrowIpc);
      assertTrue(frame.message().getArrowIpc().isEmpty());
      return frame.message().toBuilder().setArrowIpc(ByteString.copyFrom(arrowIpc)).build();
    }
  }

  /** As protobuf, from whatever stream: the same message, or none. */
  private void check(byte[] bytes) {
    for (var stream : STREAMS) {
      ReadRangeResponse expected;
      try {
        expected = ReadRangeResponse.parseFrom(bytes);
      } catch (InvalidProtocolBufferException unreadable) {
        assertThrows(StatusRuntimeException.class, () -> frames.parse(stream.apply(bytes)));
        continue;
      }
      assertEquals(expected, parsed(stream.apply(bytes)));
    }
  }

  @Test
  void fieldsComeInAnyOrderKnownOrNot() {
    var rest = WHOLE.toBuilder().clearArrowIpc().build().toByteString();
    var arrowIpc = arrow("anything").toByteString();
    for (var order : List.of(arrowIpc.concat(rest), rest.concat(arrowIpc), rest, arrowIpc)) {
      check(order.toByteArray());
    }
    check(WHOLE.toByteArray());
    check(new byte[0]);
  }

  @Test
  void ofArrowBytesThatComeTwiceTheLastCount() {
    var twice = arrow("first").toByteString().concat(arrow("last, longer").toByteString());
    check(twice.toByteArray());
    check(twice.concat(ByteString.copyFrom(bytes(ARROW_IPC_TAG, 0))).toByteArray());
    assertEquals(arrow("last, longer"), parsed(new Pieces(twice.toByteArray())));
  }

  @Test
  void whatIsCutShortIsRefused() {
    var whole = WHOLE.toByteString();
    for (var size = 0; size < whole.size(); size++) {
      check(whole.substring(0, size).toByteArray());
    }
  }

  @Test
  void whatIsGarbledIsReadAsProtobufReadsIt() {
    var random = new Random(11);
    for (var round = 0; round < 5000; round++) {
      var garbled = WHOLE.toByteArray();
      garbled[random.nextInt(garbled.length)] = (byte) random.nextInt();
      garbled[random.nextInt(60)] ^= (byte) (1 << random.nextInt(8));
      check(garbled);
    }
  }

  @Test
  void lengthsThatCannotBeRightTakeNoMemory() {
    var negative = bytes(ARROW_IPC_TAG, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 1);
    var huge = bytes(ARROW_IPC_TAG, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 1);
    var otherHuge = bytes(0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 1);
    for (var wrong : List.of(negative, huge, otherHuge)) {
      check(wrong);
    }
    assertEquals(0, allocator.getPeakMemoryAllocation());
  }

  @Test
  void aReaderThatIsClosedLeavesNothing() {
    frames.parse(new Whole(WHOLE.toByteArray()));
    var late = frames.parse(new Whole(WHOLE.toByteArray()));
    assertTrue(allocator.getAllocatedMemory() > 0);
    frames.close();
    assertEquals(0, allocator.getAllocatedMemory());
    assertThrows(IllegalStateException.class, () -> frames.taken(late));
    var more = new Whole(WHOLE.toByteArray());
    assertThrows(StatusRuntimeException.class, () -> frames.parse(more));
  }

  @Test
  void batchesOutliveTheFrameThatTheyAreReadFrom() {
    var frame = frames.taken(frames.parse(new Pieces(WHOLE.toByteArray())));
    var batches = new ArrowMessages().read(frame.arrowIpc(), WHOLE.getRowCount());
    var allocated = allocator.getAllocatedMemory();
    frame.close();
    assertEquals(allocated, allocator.getAllocatedMemory());
    batches.forEach(ArrowRecordBatch::close);
    assertEquals(0, allocator.getAllocatedMemory());
  }

  @Test
  void arrowBytesThatAreCutShortOrGarbledLeaveNothing() {
    var random = new Random(11);
    var good = WHOLE.getArrowIpc().toByteArray();
    for (var size = 0; size < good.length; size++) {
      var garbled = good.clone();
      garbled[random.nextInt(garbled.length)] = (byte) random.nextInt();
      readOrRefused(Arrays.copyOf(good, size));
      readOrRefused(garbled);
    }
  }

  private void readOrRefused(byte[] arrowIpc) {
    try (var buffer = allocator.buffer(arrowIpc.length)) {
      buffer.writeBytes(arrowIpc);
      new ArrowMessages().read(buffer, 3).forEach(ArrowRecordBatch::close);
    } catch (BadAnswerException refused) {
      assertTrue(refused.getMessage().startsWith("the server sent"));
    }
    assertEquals(0, allocator.getAllocatedMemory());
  }

  /** As gRPC gives it, all in one array. */
  private static class Whole extends ByteArrayInputStream implements KnownLength {
    Whole(byte[] bytes) {
      super(bytes);
    }
  }

  /** As gRPC gives it, in the network's memory. */
  private static final class Pieces extends Whole implements HasByteBuffer {
    private static final int SIZE = 7;

    Pieces(byte[] bytes) {
      super(bytes);
    }

    @Override
    public boolean byteBufferSupported() {
      return true;
    }

    @Override
    public ByteBuffer getByteBuffer() {
      var left = Math.min(SIZE - pos % SIZE, count - pos);
      return ByteBuffer.allocateDirect(left).put(buf, pos, left).flip();
    }
  }

  /** As gRPC gives it if it was compressed: nobody knows how much there is. */
  private static final class Unknown extends FilterInputStream {
    Unknown(InputStream bytes) {
      super(bytes);
    }

    @Override
    public int available() {
      return 0;
    }
  }
}
