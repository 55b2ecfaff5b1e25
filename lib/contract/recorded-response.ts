/**
 * The answer as it is kept: what a replay needs to be the same answer again, and nothing of the
 * connection that carried the first one. It knows nothing of frameworks or of Postgres.
 */

/**
 * Kept header fields in the order they were set. Names are lower case; a field that was set as a
 * list stays a list, since joining is not the same for every field (RFC 9110, section 5.3).
 */
export type RecordedHeaders = readonly (readonly [name: string, value: string | readonly string[]])[];

export interface RecordedResponse {
  /** The HTTP status code, 200 to 599. */
  readonly status: number;
  readonly headers: RecordedHeaders;
  /** The bytes before any content coding. Empty for 204, 304 and the like. */
  readonly body: Buffer;
}

/**
 * The fields that are always kept, in lower case: they describe the content or say where things are.
 * Whatever else an answer carries belongs to its moment or its connection, unless the application
 * asks for it.
 */
export const ALWAYS_KEPT_HEADERS = [
  'content-type',
  'content-language',
  'content-location',
  'content-disposition',
  'cache-control',
  'location',
  'etag',
  'last-modified',
  'link',
] as const;
