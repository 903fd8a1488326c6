// The Node client against the target server whose URL is the argument.
'use strict';
const assert = require('node:assert');
const { Client } = require('../client.js');

process.on('warning', (w) => assert.fail(w)); // such as of listeners that pile up

// A large result in chunks of a pipe: joining them copies each byte once, or twice.
async function largeResult() {
  const client = new Client();
  await new Promise((resolve) => client.process.stdout.once('data', resolve)); // HELLO
  const size = 64 << 20, frame = Buffer.alloc(12 + 72 + size, 7);
  [3, 1, 72 + size].forEach((n, i) => frame.writeUInt32LE(n, 4 * i));
  frame.fill(0, 12, 84);
  frame.writeBigUInt64LE(1n, 12);
  frame.writeUInt32LE(size, 28);
  const answer = new Promise((resolve) => client.pending.set(1n, { resolve, forget() {} }));
  const concat = Buffer.concat;
  let copied = 0;
  Buffer.concat = (parts) => {
    const whole = concat(parts);
    copied += whole.length;
    return whole;
  };
  for (let at = 0; at < frame.length; at += 4096) client.read(frame.subarray(at, at + 4096));
  Buffer.concat = concat;
  const { body } = await answer;
  assert.ok(body.length === size && body.every((b) => b === 7));
  assert.ok(copied <= 2 * frame.length, `${copied} bytes were copied`);
  await client.close();
}

async function main(base) {
  await largeResult();
  const client = new Client({ flags: ['-c', '16', '--per-host', '16', '-p', '8', '--retries', '0', '--window', '300'] });

  // More than the window, in any order, each answer to its request.
  const urls = Array.from({ length: 5000 }, (_, i) => `${base}/item/${i}`);
  const answers = await Promise.all(urls.map((u) => client.request(u)));
  answers.forEach((a, i) => {
    assert.strictEqual(a.error, null);
    assert.strictEqual(a.status, 200);
    assert.strictEqual(a.body.toString(), `/item/${i}`);
    assert.match(a.head.toString(), /^HTTP\/1.1 200 OK\r\n.*\r\n\r\n$/s);
    assert.strictEqual(`http://${a.remote}`, base);
    assert.ok(a.totalUs > 0);
  });

  const echo = await client.request(`${base}/echo`, { method: 'PUT', headers: { 'X-Tag': 't' }, body: 'é' });
  const said = JSON.parse(echo.body);
  assert.deepStrictEqual([said.method, said.body, said.headers['x-tag']], ['PUT', 'é', ['t']]);
  const big = await client.request(`${base}/bytes/3000000`);
  assert.strictEqual(big.body.length, 3000000);

  const huge = new Client({ flags: ['--max-body', '64MiB'] });
  assert.strictEqual((await huge.request(`${base}/bytes/67108864`)).body.length, 67108864);
  await huge.close();

  const bad = await client.request('no url');
  assert.strictEqual(bad.error.kind, 'invalid_request');
  const late = await client.request(`${base}/delay/60000`, { timeoutMs: 20 });
  assert.deepStrictEqual([late.error.kind, late.error.phase], ['timeout', 'head']);
  const abort = new AbortController();
  const canceled = client.request(`${base}/delay/60000`, { signal: abort.signal });
  abort.abort();
  assert.strictEqual((await canceled).error.kind, 'canceled');
  assert.strictEqual((await client.request(`${base}/delay/60000`, { signal: abort.signal })).error.kind, 'canceled');

  const shared = new AbortController().signal;
  for (let i = 0; i < 20; i++) await client.request(`${base}/a`, { signal: shared });

  // What has no place in the window can be canceled too; what is more than a frame takes is divided.
  const narrow = new Client({ flags: ['--window', '1'] });
  const [first, behind] = [new AbortController(), new AbortController()];
  const waits = [first, behind].map((a) => narrow.request(`${base}/delay/60000`, { signal: a.signal }));
  await narrow.request('no url', { signal: AbortSignal.abort() });
  behind.abort();
  assert.strictEqual((await waits[1]).error.kind, 'canceled');
  first.abort();
  assert.strictEqual((await waits[0]).error.kind, 'canceled');
  await narrow.close();
  const body = Buffer.alloc(30 << 20);
  const large = await Promise.all([1, 2, 3].map(() => client.request(`${base}/a`, { method: 'PUT', body })));
  assert.deepStrictEqual(large.map((a) => a.status), [200, 200, 200]);
  await assert.rejects(client.request(base, { method: 'PUT', body: Buffer.alloc(64 << 20) }), RangeError);

  const last = client.request(`${base}/delay/50`);
  setImmediate(() => setImmediate(() => client.close())); // after it was sent
  assert.strictEqual((await last).body.toString(), '/delay/50');
  await client.ended;
  await assert.rejects(client.request(base), /closed/);

  const killed = new Client();
  const lost = killed.request(`${base}/delay/60000`);
  killed.process.kill('SIGKILL');
  await assert.rejects(lost, /hotlap has died/);
}

main(process.argv[2]).then(() => console.log('ok'));
