/** Servers that misbehave on purpose, and time that only moves when told to. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import type { Clock } from '../../lib/contract/clock.js';

/** Time that stands still until somebody moves it. */
export function stoppedClock(): Clock & { advance(ms: number): void; readonly waiting: number } {
  let now = 0;
  const tasks = new Set<{ at: number; task: () => void }>();
  return {
    now: () => now,
    after(delayMs, task) {
      const entry = { at: now + delayMs, task };
      tasks.add(entry);
      return () => tasks.delete(entry);
    },
    advance(ms) {
      now += ms;
      for (const entry of [...tasks].filter(({ at }) => at <= now)) if (tasks.delete(entry)) entry.task();
    },
    get waiting() {
      return tasks.size;
    },
  };
}

/** Takes connections and says nothing, as a stalled server or a wrong firewall rule does. */
export async function mute(): Promise<Listener> {
  return listen((socket) => socket.on('error', () => undefined));
}

/** Before Postgres has seen the statement, or before the client has seen the answer. */
type Moment = 'statement' | 'answer';

/** The first bytes of the messages Close, Parse and Bind, with which a statement begins; what opens a connection begins otherwise. */
const STATEMENT = [0x43, 0x50, 0x42];

export interface Proxy extends Listener {
  /** Cuts each connection that is open now, when it is used next. */
  cutAt(moment: Moment): void;
  /** Cuts each connection that is made from now on, at its first statement. */
  cutNewOnesAt(moment: Moment | undefined): void;
  /** Connections made so far. */
  readonly made: number;
}

/** Stands between a store and Postgres, and cuts the line at a chosen moment. */
export async function proxyTo(url: string): Promise<Proxy> {
  const { hostname, port } = new URL(url);
  const lines = new Set<{ cutAt: Moment | undefined }>();
  let newOnes: Moment | undefined;
  let made = 0;
  const listener = await listen((client) => {
    const line = { cutAt: newOnes };
    let asked = false;
    const server = connect(Number(port), hostname);
    const cut = (): void => {
      client.destroy();
      server.destroy();
      lines.delete(line);
    };
    lines.add(line);
    made += 1;
    client.on('data', (bytes: Buffer) => {
      asked ||= STATEMENT.includes(bytes[0]!);
      if (asked && line.cutAt === 'statement') cut();
      else server.write(bytes);
    });
    server.on('data', (bytes: Buffer) => {
      if (asked && line.cutAt === 'answer') cut();
      else client.write(bytes);
    });
    client.on('error', cut).on('close', cut);
    server.on('error', cut).on('close', cut);
  });
  return {
    ...listener,
    cutAt(moment) {
      for (const line of lines) line.cutAt = moment;
    },
    cutNewOnesAt(moment) {
      newOnes = moment;
    },
    get made() {
      return made;
    },
  };
}

export interface Pooler extends Listener {
  readonly url: string;
  readonly connections: { readonly made: number; readonly ended: number };
}

/** A pooler tells its clients of backends that are none, since it gives them another one with each transaction. */
export async function poolerTo(url: string): Promise<Pooler> {
  const { hostname, port } = new URL(url);
  const connections = { made: 0, ended: 0 };
  const listener = await listen((client) => {
    connections.made += 1;
    client.on('close', () => (connections.ended += 1));
    const server = connect(Number(port), hostname);
    client.on('error', () => server.destroy()).on('close', () => server.destroy());
    server.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.on('data', (bytes) => server.write(bytes));
    server.on('data', (bytes: Buffer) => client.write(withAnotherPid(bytes)));
  });
  return { ...listener, connections, url: Object.assign(new URL(url), { port: String(listener.port) }).href };
}

/** “BackendKeyData”, of twelve bytes, comes among the parameters, before the first “ReadyForQuery”. */
function withAnotherPid(bytes: Buffer): Buffer {
  const at = bytes.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]));
  if (at !== -1) bytes.writeInt32BE(bytes.readInt32BE(at + 5) + 1, at + 5);
  return bytes;
}

export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

export async function listen(serve: (socket: Socket) => void): Promise<Listener> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serve(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
