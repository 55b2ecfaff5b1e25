/**
 * The only file that knows Express and Fastify apart. Beyond this door there are only facts.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { announcesContent, reasonOf, setReason } from './http2.js';

/** One uploaded part with content, as the platform's file interceptors leave it on the request. */
export interface FilePart {
  readonly field: string;
  readonly fileName: string;
  readonly mediaType: string;
  /** Bytes. */
  readonly size: number;
  /** Where the content is: in memory, in a file of this path, or out of our reach (an engine that stores it elsewhere). */
  readonly content: Buffer | { readonly path: string } | undefined;
}

export interface RequestFacts {
  /** Upper case. */
  readonly method: string;
  /** As the client sent it, without the query. */
  readonly path: string;
  /** The query as it was sent, without the question mark; `''` without one. */
  readonly query: string;
  /** The route's pattern with global prefix and URI version, such as `/api/v1/orders/:id`. */
  readonly routePattern: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** All fields of that name, unjoined (Node joins repeated ones elsewhere). `name` in lower case. */
  header(name: string): readonly string[];
  /** The Content-Type field as sent. */
  readonly contentType: string | undefined;
  /**
   * Whether the message has content at all (RFC 9112, section 6: Content-Length or Transfer-Encoding). Over HTTP/2
   * neither has to be there; what has no type either is content that Fastify passes over.
   */
  readonly hasContent: boolean;
  /** What a body parser or file interceptor has made of it; `undefined` if none has. */
  readonly body: unknown;
  /** The exact bytes, in applications created with `rawBody: true`. */
  readonly rawBody: Buffer | undefined;
  /** `undefined` until a file interceptor has run, or if that was one for a single file and there was none. */
  readonly files: readonly FilePart[] | undefined;
  /** `request.user`, as the application's guards left it. */
  readonly user: unknown;
}

export interface ResponseDoor {
  readonly raw: ServerResponse;
  /** Headers that the framework will write but Node does not know yet. */
  pendingHeaders(): OutgoingHttpHeaders;
  /** Sets a header for the answer the framework will write. A Content-Type is that of the JSON it will write. */
  setHeader(name: string, value: string): void;
  /** Notes status and headers; what it returns puts them back as they are now. Only while nothing has been written. */
  remember(): () => void;
  /** Keeps a `@Render()` handler's view from being made, where the answer has left already and there is nothing to show. */
  muteViews(): void;
  /** Gives the framework another response to write to: this one has its answer. */
  divert(elsewhere: ServerResponse): void;
  /** Makes it 304, which has no content, whatever the application goes on to give the framework for it. */
  notModified(): void;
}

export interface Exchange {
  /** The framework's own, as handlers get it: to know it again by. */
  readonly native: object;
  readonly request: RequestFacts;
  readonly response: ResponseDoor;
}

const NOT_MODIFIED = 304;

/** What most requests have of most header fields. */
const NONE: readonly string[] = Object.freeze([]);

const NO_HEADERS: OutgoingHttpHeaders = Object.freeze({});

export function readExchange(request: unknown, response: unknown): Exchange {
  return exchangeOf(request, readRequest(request), response);
}

/** Of a request whose answer may be no business of ours. */
export function readRequest(request: unknown): RequestFacts {
  return isFastify(request) ? new FastifyFacts(request) : new ExpressFacts(request as ExpressRequest);
}

/** @param request what has been read of `native` */
export function exchangeOf(native: unknown, request: RequestFacts, response: unknown): Exchange {
  const door = request instanceof FastifyFacts ? new FastifyDoor(response as FastifyReply) : new ExpressDoor(response as ExpressResponse);
  return { native: native as object, request, response: door };
}

/** What both leave on the request object, each through its own body parsers, guards and file interceptors. */
interface FrameworkRequest {
  readonly originalUrl?: string;
  readonly params?: unknown;
  readonly body?: unknown;
  readonly rawBody?: unknown;
  readonly file?: unknown;
  readonly files?: unknown;
  readonly user?: unknown;
}

type RawRequest = IncomingMessage & Pick<FrameworkRequest, 'rawBody' | 'user'>;

interface ExpressRequest extends IncomingMessage, FrameworkRequest {
  readonly baseUrl?: string;
  /** Nest registers every path by itself, and as a string. */
  readonly route?: { readonly path: string };
}

interface FastifyRequest extends FrameworkRequest {
  readonly raw: RawRequest;
  readonly routeOptions: { readonly url?: string };
}

interface ExpressResponse extends ServerResponse {
  json(body: unknown): unknown;
}

interface FastifyReply {
  readonly raw: ServerResponse;
  readonly statusCode: number;
  send(payload?: unknown): unknown;
  /** Its own and those of the raw response; its own win. */
  getHeaders(): OutgoingHttpHeaders;
  header(name: string, value: unknown): unknown;
  removeHeader(name: string): unknown;
}

function isFastify(request: unknown): request is FastifyRequest {
  return typeof request === 'object' && request !== null && 'raw' in request && 'routeOptions' in request;
}

class ExpressDoor implements ResponseDoor {
  constructor(readonly raw: ExpressResponse) {}

  pendingHeaders(): OutgoingHttpHeaders {
    return NO_HEADERS;
  }

  setHeader(name: string, value: string): void {
    if (name === 'content-type') setJsonType(this.raw, value);
    else this.raw.setHeader(name, value);
  }

  remember(): () => void {
    return rememberHead(this.raw);
  }

  muteViews(): void {
    Object.assign(this.raw, { render: nothing });
  }

  /** Express has none over HTTP/2, and HTTP/1.1 needs none. */
  divert(): void {
    nothing();
  }

  notModified(): void {
    this.raw.statusCode = NOT_MODIFIED; // Express itself then leaves the content out
    Object.assign(this.raw, { render: () => this.raw.end() });
  }
}

/**
 * Nest 11's adapter replaces every type but application/json that it finds beside the body of an
 * error. So ours is set behind its back, when JSON is written and nobody has chosen a type until then.
 */
function setJsonType(response: ExpressResponse, type: string): void {
  const { json } = response;
  response.removeHeader('content-type');
  response.json = (body) => {
    if (!response.hasHeader('content-type')) response.setHeader('content-type', type);
    return json.call(response, body);
  };
}

class FastifyDoor implements ResponseDoor {
  readonly raw: ServerResponse;

  constructor(private readonly reply: FastifyReply) {
    this.raw = reply.raw;
  }

  pendingHeaders(): OutgoingHttpHeaders {
    return this.reply.getHeaders();
  }

  setHeader(name: string, value: string): void {
    this.reply.header(name, value);
  }

  remember(): () => void {
    const { raw, reply } = this;
    const [restoreRaw, below, both] = [rememberHead(raw), raw.getHeaders(), reply.getHeaders()];
    return () => {
      restoreRaw();
      for (const name of Object.keys(reply.getHeaders())) reply.removeHeader(name);
      for (const [name, value] of Object.entries(both)) if (value !== below[name]) reply.header(name, value);
    };
  }

  muteViews(): void {
    Object.assign(this.reply, { view: nothing });
  }

  divert(elsewhere: ServerResponse): void {
    Object.assign(this.reply, { raw: elsewhere });
  }

  notModified(): void {
    sendWithoutContent(this.reply);
  }
}

/** Fastify would tell the length of what it leaves out. An error behind us is sent as it is. */
function sendWithoutContent(reply: FastifyReply): void {
  const { send } = reply;
  reply.raw.statusCode = NOT_MODIFIED;
  reply.send = (payload) => send.call(reply, reply.statusCode === NOT_MODIFIED ? undefined : payload);
  Object.assign(reply, { view: () => reply.send() });
}

function rememberHead(raw: ServerResponse): () => void {
  const { statusCode } = raw;
  const reason = reasonOf(raw);
  const headers = raw.getHeaders();
  return () => {
    raw.statusCode = statusCode;
    setReason(raw, reason);
    for (const name of raw.getHeaderNames()) raw.removeHeader(name);
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) raw.setHeader(name, value);
  };
}

/** What both leave on the request; read when asked for, since most requests carry no key and are asked for one header only. */
abstract class Facts<Request extends FrameworkRequest> implements RequestFacts {
  constructor(
    protected readonly request: Request,
    private readonly raw: RawRequest,
  ) {}

  abstract readonly routePattern: string;
  abstract readonly body: unknown;

  get method(): string {
    return (this.raw.method ?? 'GET').toUpperCase();
  }

  get path(): string {
    const { url } = this;
    const mark = url.indexOf('?');
    return mark === -1 ? url : url.slice(0, mark);
  }

  get query(): string {
    const { url } = this;
    const mark = url.indexOf('?');
    return mark === -1 ? '' : url.slice(mark + 1);
  }

  get params(): Readonly<Record<string, unknown>> {
    return isRecord(this.request.params) ? this.request.params : {};
  }

  /** From `rawHeaders`, as `headersDistinct` does, but without splitting up all the others. */
  header(name: string): readonly string[] {
    const { rawHeaders } = this.raw;
    let values: string[] | undefined;
    for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
      const field = rawHeaders[i];
      const value = rawHeaders[i + 1];
      if (value === undefined || field?.length !== name.length || field.toLowerCase() !== name) continue;
      if (values === undefined) values = [value];
      else values.push(value);
    }
    return values ?? NONE;
  }

  get contentType(): string | undefined {
    return this.raw.headers['content-type'];
  }

  get hasContent(): boolean {
    const { headers } = this.raw;
    const length = headers['content-length'];
    if (headers['transfer-encoding'] !== undefined) return true;
    if (length !== undefined) return Number(length) > 0;
    return headers['content-type'] !== undefined && announcesContent(this.raw);
  }

  get rawBody(): Buffer | undefined {
    const rawBody = this.request.rawBody ?? this.raw.rawBody;
    if (typeof rawBody === 'string') return Buffer.from(rawBody);
    return Buffer.isBuffer(rawBody) ? rawBody : undefined;
  }

  get files(): readonly FilePart[] | undefined {
    return fileParts(this.request);
  }

  /** Middleware made for Express leaves it on Fastify's raw request. */
  get user(): unknown {
    return this.request.user ?? this.raw.user;
  }

  private get url(): string {
    return this.request.originalUrl ?? this.raw.url ?? '/';
  }
}

class ExpressFacts extends Facts<ExpressRequest> {
  constructor(request: ExpressRequest) {
    super(request, request);
  }

  get routePattern(): string {
    const { baseUrl = '', route } = this.request;
    return `${baseUrl}${route?.path ?? ''}`;
  }

  /** Express 4 starts with `{}` where Express 5 has nothing; it counts as a body only if somebody has read the message. */
  get body(): unknown {
    const { body } = this.request;
    const untouched = !this.request.readableDidRead && isRecord(body) && Object.keys(body).length === 0;
    return untouched ? undefined : body;
  }
}

class FastifyFacts extends Facts<FastifyRequest> {
  constructor(request: FastifyRequest) {
    super(request, request.raw);
  }

  get routePattern(): string {
    return this.request.routeOptions.url ?? '';
  }

  /** `null` is a JSON body, and also Fastify's word for none. */
  get body(): unknown {
    const { body } = this.request;
    return body === null && !this.hasContent ? undefined : body;
  }
}

/**
 * Multer's shapes, which Nest's own interceptors for Fastify keep to: one file, a list, or lists by
 * field. A plugin's method of that name (`@fastify/multipart`) is none of them.
 */
function fileParts({ file, files }: FrameworkRequest): readonly FilePart[] | undefined {
  const uploaded = [file, ...(isRecord(files) ? Object.values(files).flat() : [files].flat())].filter(isUploadedFile);
  const interceptorRan = uploaded.length > 0 || typeof files === 'object';
  return interceptorRan ? uploaded.map(toFilePart) : undefined;
}

interface UploadedFile {
  readonly fieldname: string;
  readonly originalname: string;
  readonly mimetype: string;
  readonly size?: number;
  readonly buffer?: unknown;
  readonly path?: unknown;
}

function isUploadedFile(value: unknown): value is UploadedFile {
  return isRecord(value) && typeof value.fieldname === 'string' && typeof value.originalname === 'string';
}

function toFilePart({ fieldname, originalname, mimetype, size = 0, buffer, path }: UploadedFile): FilePart {
  const content = Buffer.isBuffer(buffer) ? buffer : typeof path === 'string' ? { path } : undefined;
  return { field: fieldname, fileName: originalname, mediaType: mimetype, size, content };
}

function nothing(): void {
  // there is nothing to do
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
