package io.markethistory;

import io.markethistory.v1.ReadRangeResponse;
import org.apache.arrow.memory.ArrowBuf;

/**
 * One message of a read, its Arrow bytes where Arrow wants them. To be closed; batches that were
 * read out of it stay.
 *
 * @param message all fields but {@code arrow_ipc}
 * @param arrowIpc that field; empty if the message has none
 */
record Frame(ReadRangeResponse message, ArrowBuf arrowIpc) implements AutoCloseable {

  @Override
  public void close() {
    arrowIpc.close();
  }
}
