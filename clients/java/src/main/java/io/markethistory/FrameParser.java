package io.markethistory;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.WireFormat;
import io.grpc.HasByteBuffer;
import io.grpc.KnownLength;
import io.markethistory.v1.ReadRangeResponse;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;

/**
 * Parses one message of a read: its Arrow bytes are copied once, from the network's memory to
 * Arrow's; all other fields are left to protobuf.
 */
final class FrameParser {

  private static final int ARROW_IPC =
      ReadRangeResponse.ARROW_IPC_FIELD_NUMBER << 3 | WireFormat.WIRETYPE_LENGTH_DELIMITED;
  private static final int MORE = 0x80;
  private static final int MOST_VARINT_BYTES = 10;
  private static final int MOST_AT_ONCE = 1 << 16;

  private final InputStream bytes;
  private final HasByteBuffer pieces;
  private final BufferAllocator allocator;
  private final ByteArrayOutputStream others = new ByteArrayOutputStream();
  private final CodedOutputStream copied = CodedOutputStream.newInstance(others);
  private ArrowBuf arrowIpc;

  private FrameParser(InputStream bytes, BufferAllocator allocator) {
    this.bytes = bytes;
    this.pieces =
        bytes instanceof HasByteBuffer buffers && buffers.byteBufferSupported() ? buffers : null;
    this.allocator = allocator;
    this.arrowIpc = allocator.getEmpty();
  }

  /**
   * The message that a stream holds, to be closed by the caller.
   *
   * @throws InvalidProtocolBufferException if it holds none
   */
  static Frame parse(InputStream stream, BufferAllocator allocator) throws IOException {
    // Lengths are believed only if so many bytes are here, so it must be known how many are.
    var bytes =
        stream instanceof KnownLength ? stream : new ByteArrayInputStream(stream.readAllBytes());
    var parser = new FrameParser(bytes, allocator);
    try {
      parser.walk();
      var message = ReadRangeResponse.parseFrom(parser.others.toByteArray());
      return new Frame(message, parser.arrowIpc);
    } catch (IOException | RuntimeException unreadable) {
      parser.arrowIpc.close();
      throw unreadable;
    }
  }

  private void walk() throws IOException {
    var groups = 0;
    for (var first = bytes.read(); first >= 0; first = bytes.read()) {
      var tag = CodedInputStream.readRawVarint32(first, bytes);
      if (tag == ARROW_IPC && groups == 0) {
        takeArrowIpc();
        continue;
      }
      copied.writeUInt32NoTag(tag);
      // Whether groups are well-formed is for protobuf to say: they are copied whole.
      switch (WireFormat.getTagWireType(tag)) {
        case WireFormat.WIRETYPE_VARINT -> copyVarint();
        case WireFormat.WIRETYPE_FIXED64 -> copy(Long.BYTES);
        case WireFormat.WIRETYPE_FIXED32 -> copy(Integer.BYTES);
        case WireFormat.WIRETYPE_LENGTH_DELIMITED -> copyDelimited();
        case WireFormat.WIRETYPE_START_GROUP -> groups += 1;
        case WireFormat.WIRETYPE_END_GROUP -> groups -= 1;
        default -> throw new InvalidProtocolBufferException("a field of an unknown wire type");
      }
    }
    copied.flush();
  }

  /** Copies a number; whether one of so many bytes is right is for protobuf to say. */
  private void copyVarint() throws IOException {
    var next = MORE;
    for (var size = 0; (next & MORE) != 0 && size < MOST_VARINT_BYTES; size++) {
      next = bytes.read();
      if (next < 0) {
        throw new InvalidProtocolBufferException("a number that is cut short");
      }
      copied.write((byte) next);
    }
  }

  private void copyDelimited() throws IOException {
    var size = size();
    copied.writeUInt32NoTag(size);
    copy(size);
  }

  private void copy(int size) throws IOException {
    checkAtHand(size);
    copied.writeRawBytes(bytes.readNBytes(size));
  }

  private int size() throws IOException {
    var size = CodedInputStream.readRawVarint32(bytes.read(), bytes);
    checkAtHand(size);
    return size;
  }

  private void checkAtHand(int size) throws IOException {
    var atHand = bytes.available();
    if (size < 0 || size > atHand) {
      throw new InvalidProtocolBufferException(
          "a field of " + size + " bytes where " + atHand + " are left");
    }
  }

  private void takeArrowIpc() throws IOException {
    var size = size();
    // Of a field that comes twice the last one counts.
    arrowIpc.close();
    arrowIpc = allocator.getEmpty();
    arrowIpc = allocator.buffer(size);
    for (var done = 0; done < size; ) {
      done += takePiece(done, size - done);
    }
    arrowIpc.writerIndex(size);
  }

  /** Copies what the stream can give at once; says how much that was. */
  private int takePiece(int index, int most) throws IOException {
    var piece = pieces == null ? null : pieces.getByteBuffer();
    if (piece == null || !piece.hasRemaining()) {
      var read = bytes.readNBytes(Math.min(most, MOST_AT_ONCE));
      arrowIpc.setBytes(index, read);
      return read.length;
    }
    var size = Math.min(most, piece.remaining());
    arrowIpc.setBytes(index, piece.limit(piece.position() + size));
    bytes.skipNBytes(size);
    return size;
  }
}
