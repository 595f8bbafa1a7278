/**
 * Lets Arrow read compressed batches: it knows LZ4 and Zstandard by name, but brings no code for them.
 *
 * A codec that the program has registered itself is left alone.
 */
import * as zlib from "node:zlib";
import { CompressionType, compressionRegistry } from "apache-arrow";
import { decompress as zstd } from "fzstd";
import { decompress as lz4 } from "lz4js";

type Decode = (data: Uint8Array) => Uint8Array;

/** Registers what is needed to read `compression: "lz4"` and `"zstd"`. */
export function registerCodecs(): void {
  register(CompressionType.LZ4_FRAME, lz4);
  register(CompressionType.ZSTD, nativeZstd() ?? zstd);
}

function register(type: CompressionType, decode: Decode): void {
  if (compressionRegistry.get(type)?.decode === undefined) {
    compressionRegistry.set(type, { decode: (data) => aligned(decode(data)) });
  }
}

/** Arrow makes arrays of 64-bit numbers on what it is given, which may begin anywhere in a codec's own memory. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
}

/** Node's own Zstandard, some times faster; Node 20 has none. */
function nativeZstd(): Decode | undefined {
  const { zstdDecompressSync } = zlib as unknown as { zstdDecompressSync?: Decode };
  return zstdDecompressSync;
}
