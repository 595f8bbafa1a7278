/** What is used of lz4js, which ships no types. */
declare module "lz4js" {
  /** The content of one LZ4 frame. */
  export function decompress(frame: Uint8Array): Uint8Array;
}
