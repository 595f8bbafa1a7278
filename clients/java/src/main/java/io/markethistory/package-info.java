/**
 * Thin client of historyd: market history as Arrow over gRPC.
 *
 * <p>Begin with {@link io.markethistory.MarketHistoryClient}. The contract's own messages,
 * generated, are in {@code io.markethistory.v1}.
 */
package io.markethistory;
