// A client of hotlap pipe in Node: what PROTOCOL.md says, and no more.
//
//   const { Client } = require('./client.js');
//   const client = new Client({ flags: ['-c', '64', '--per-host', '64', '-p', 'auto'] });
//   const { status, body } = await client.request('http://127.0.0.1:8080/hello');
//   await client.close();
'use strict';
const { spawn } = require('node:child_process');

const HELLO = 1, REQUESTS = 2, RESULTS = 3, CANCEL = 4, BYE = 6, FATAL = 7;
const HEADER = 12, REQUEST = 28, RESULT = 72, MAX_ENTRIES = 65536;
const NOTHING = Buffer.alloc(0);

function frame(type, count, parts) {
  const head = Buffer.alloc(HEADER);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(count, 4);
  head.writeUInt32LE(parts.reduce((n, p) => n + p.length, 0), 8);
  return Buffer.concat([head, ...parts]);
}

class Client {
  constructor({ binary = process.env.HOTLAP_BIN || 'hotlap', flags = [] } = {}) {
    this.pending = new Map(); // id -> what to do with its result
    this.queue = new Map(); // requests that the window has no room for, by id
    this.batch = []; // requests of this turn: they share a frame
    this.batchBytes = 0;
    this.nextId = 1n;
    this.window = 0; // known with HELLO
    this.sent = 0; // requests without a result
    this.unread = []; // chunks that begin with a frame that is not complete
    this.unreadBytes = 0;
    this.wanted = HEADER; // the size at which it is worth joining them
    this.process = spawn(binary, ['pipe', `--parent=${process.pid}`, ...flags], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.process.on('error', (e) => this.end(e));
    this.process.stdin.on('error', () => {}); // its end says more
    this.process.stdout.on('data', (data) => this.read(data));
    this.ended = new Promise((resolve) => this.process.stdout.on('close', resolve));
    this.ended.then(() => this.end(new Error(this.last || 'hotlap has died')));
  }

  // Sends a request, and resolves to its result: also one that says error. The
  // promise is rejected if hotlap is gone. signal, an AbortSignal, cancels.
  request(url, { method = 'GET', headers = {}, body = null, timeoutMs = 0, signal = null } = {}) {
    if (this.gone) return Promise.reject(this.gone);
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');
    const content = body === null ? NOTHING : Buffer.from(body);
    const texts = [method, url, lines].map((s) => Buffer.from(s));
    const entry = Buffer.alloc(REQUEST), id = this.nextId++;
    entry.writeBigUInt64LE(id, 0);
    entry.writeUInt32LE(timeoutMs, 8);
    entry.writeUInt32LE(texts[1].length, 12);
    entry.writeUInt32LE(texts[2].length, 16);
    entry.writeUInt32LE(content.length, 20);
    entry.writeUInt16LE(texts[0].length, 24);
    entry.writeUInt16LE(body === null ? 0 : 1, 26);
    return new Promise((resolve, reject) => {
      const abort = () => this.cancel(id);
      const forget = () => signal?.removeEventListener('abort', abort);
      this.pending.set(id, { resolve, reject, forget });
      this.queue.set(id, { id, entry, rest: Buffer.concat([...texts, content]) });
      this.send();
      signal?.addEventListener('abort', abort, { once: true });
      if (signal?.aborted) abort();
    });
  }

  cancel(id) {
    if (this.queue.delete(id)) {
      const error = { kind: 'canceled', phase: 'queue', message: 'it was not sent' };
      this.settle(id, 'resolve', { status: 0, head: NOTHING, body: NOTHING, error, remote: '', totalUs: 0 });
      return;
    }
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(id, 0);
    setImmediate(() => this.process.stdin.write(frame(CANCEL, 1, [bytes]))); // behind its request
  }

  // Puts what the window has room for into the frame of this turn.
  send() {
    for (const q of this.queue.values()) {
      if (this.sent >= this.window) return;
      this.queue.delete(q.id);
      const size = REQUEST + q.rest.length;
      if (size > this.hello.max_frame) {
        this.settle(q.id, 'reject', new RangeError(`a request of ${size} bytes, at most ${this.hello.max_frame}`));
        continue;
      }
      if (this.batchBytes + size > this.hello.max_frame || this.batch.length === MAX_ENTRIES) this.flush();
      if (this.batch.length === 0) setImmediate(() => this.flush());
      this.batch.push(q);
      this.batchBytes += size;
      this.sent++;
    }
  }

  flush() {
    const batch = this.batch;
    if (batch.length === 0) return;
    this.process.stdin.write(frame(REQUESTS, batch.length, [...batch.map((q) => q.entry), ...batch.map((q) => q.rest)]));
    this.batch = [];
    this.batchBytes = 0;
  }

  settle(id, how, value) {
    const asked = this.pending.get(id);
    this.pending.delete(id);
    asked.forget();
    asked[how](value);
  }

  // Takes frames from what has come. Chunks are joined once, when a frame is complete.
  read(data) {
    this.unread.push(data);
    this.unreadBytes += data.length;
    if (this.unreadBytes < this.wanted) return;
    let buf = this.unread.length > 1 ? Buffer.concat(this.unread) : data;
    for (;;) {
      this.wanted = buf.length < HEADER ? HEADER : HEADER + buf.readUInt32LE(8);
      if (buf.length < this.wanted) break;
      this.take(buf.readUInt32LE(0), buf.readUInt32LE(4), buf.subarray(HEADER, this.wanted));
      buf = buf.subarray(this.wanted);
    }
    this.unread = [buf];
    this.unreadBytes = buf.length;
  }

  take(type, count, payload) {
    if (type === HELLO) {
      this.hello = JSON.parse(payload);
      if (this.hello.protocol !== 1) this.process.kill();
      this.window = this.hello.window;
    } else if (type === RESULTS) {
      this.results(count, payload);
    } else if (type === BYE || type === FATAL) {
      this.last = type === BYE ? 'the client was closed' : `protocol: ${payload}`;
    }
    this.send();
  }

  results(count, payload) {
    let at = count * RESULT;
    const cut = (n) => payload.subarray(at, (at += n));
    for (let e = 0; e < count * RESULT; e += RESULT) {
      const id = payload.readBigUInt64LE(e), kind = this.hello.kinds[payload[e + 10]];
      const head = cut(payload.readUInt32LE(e + 12)), message = cut(payload.readUInt16LE(e + 20)), remote = cut(payload[e + 22]);
      const error = kind ? { kind, phase: this.hello.phases[payload[e + 11]], message: message.toString() } : null;
      const body = cut(payload.readUInt32LE(e + 16)), totalUs = Number(payload.readBigUInt64LE(e + 40));
      this.sent--;
      this.settle(id, 'resolve', { status: payload.readUInt16LE(e + 8), head, body, error, remote: remote.toString(), totalUs });
    }
  }

  end(error) {
    this.gone = this.gone || error;
    for (const id of this.pending.keys()) this.settle(id, 'reject', this.gone);
  }

  // Ends when all that was asked is answered.
  close() {
    this.process.stdin.end();
    return this.ended;
  }
}

module.exports = { Client };
