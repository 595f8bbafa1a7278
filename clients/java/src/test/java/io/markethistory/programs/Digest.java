package io.markethistory.programs;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.Float8Vector;
import org.apache.arrow.vector.IntVector;
import org.apache.arrow.vector.TimeStampVector;
import org.apache.arrow.vector.VarCharVector;
import org.apache.arrow.vector.VectorSchemaRoot;

/**
 * The digests by which clients of all languages are compared; tests/clients/README.md defines them.
 */
final class Digest {

  /** One line of a span or an event. */
  record Line(long start, long end, String state, long rows) {}

  private final MessageDigest sha = sha256();

  /** Adds the rows of a batch. */
  void add(VectorSchemaRoot rows) {
    for (var row = 0; row < rows.getRowCount(); row++) {
      for (var column : rows.getFieldVectors()) {
        add(column, row);
      }
    }
  }

  String hex() {
    return HexFormat.of().formatHex(sha.digest());
  }

  static String ofLines(List<Line> lines) {
    var text = new StringBuilder();
    for (var line : lines) {
      text.append("%d %d %s %d%n".formatted(line.start, line.end, line.state, line.rows));
    }
    return ofText(text.toString());
  }

  static String ofError(String reason, Map<String, String> metadata, Optional<Long> retryAfterMs) {
    var text = new StringBuilder(reason).append('\n');
    new TreeMap<>(metadata)
        .forEach((key, value) -> text.append(key).append('=').append(value).append('\n'));
    text.append("retry_after_ms=").append(retryAfterMs.map(String::valueOf).orElse("-"));
    return ofText(text.append('\n').toString());
  }

  private void add(FieldVector column, int row) {
    if (column.isNull(row)) {
      sha.update((byte) 0);
      return;
    }
    sha.update((byte) 1);
    if (column instanceof TimeStampVector times) {
      sha.update(little(8).putLong(times.get(row)).array());
    } else if (column instanceof Float8Vector numbers) {
      sha.update(little(8).putDouble(numbers.get(row)).array());
    } else if (column instanceof IntVector numbers) {
      sha.update(little(4).putInt(numbers.get(row)).array());
    } else if (column instanceof VarCharVector texts) {
      var utf8 = texts.get(row);
      sha.update(little(4).putInt(utf8.length).array());
      sha.update(utf8);
    } else {
      throw new IllegalArgumentException("no digest of " + column.getField());
    }
  }

  private static ByteBuffer little(int size) {
    return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static String ofText(String text) {
    return HexFormat.of().formatHex(sha256().digest(text.getBytes(StandardCharsets.UTF_8)));
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible);
    }
  }
}
