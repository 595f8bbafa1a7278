/** Opens the connection to a server: plain or TLS, with a token or without. */
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

/** TLS beyond the system's own certificates; all in PEM. */
export interface TlsOptions {
  /** The authority to trust in place of the system's. */
  readonly ca?: string | Uint8Array;
  /** This client's certificate and key, for a server that asks for them. */
  readonly certificate?: string | Uint8Array;
  readonly key?: string | Uint8Array;
  /** The name to expect in the server's certificate, if it is not the target's host. */
  readonly serverName?: string;
}

/** A connection: calls go through `transport`; `close` ends those under way. */
export interface Channel {
  readonly transport: Transport;
  close(): void;
}

// The request bounds the chunks to 3 MiB; a single row that is larger comes alone.
const MOST_MESSAGE_BYTES = 64 << 20;
const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?$/;
// What may be on its way to a reader: a few chunks. Node's own 64 KiB would wait for the server at each.
const WINDOW_BYTES = 4 << 20;

/**
 * A channel to `target` (`host:port`). Nothing is sent before the first call. Throws RangeError if a token would go to
 * another machine without TLS.
 */
export function openChannel(target: string, tls: boolean | TlsOptions, token: string | undefined): Channel {
  if (token !== undefined && tls === false && !LOOPBACK.test(target)) {
    throw new RangeError("token: needs tls, unless the server is on this machine: anybody on the way could read it");
  }
  const baseUrl = `${tls === false ? "http" : "https"}://${target}`;
  const settings = { settings: { initialWindowSize: WINDOW_BYTES } };
  const sessionManager = new Http2SessionManager(baseUrl, {}, { ...settings, ...secure(tls) });
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    readMaxBytes: MOST_MESSAGE_BYTES,
    acceptCompression: [], // Arrow's own is better; see ReadOptions.compression
    interceptors: token === undefined ? [] : [bearer(token)],
  });
  return { transport, close: () => sessionManager.abort() };
}

function secure(tls: boolean | TlsOptions): Record<string, unknown> {
  if (typeof tls === "boolean") {
    return {};
  }
  const named = { ca: tls.ca, cert: tls.certificate, key: tls.key, servername: tls.serverName };
  return Object.fromEntries(
    Object.entries(named).flatMap(([name, value]) => (value === undefined ? [] : [[name, pem(value)]])),
  );
}

/** Node takes text or a Buffer, no other bytes. */
function pem(value: string | Uint8Array): string | Buffer {
  return typeof value === "string" ? value : Buffer.from(value);
}

function bearer(token: string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
}
