// poly-websockets: its WSSubscriptionManager and the books that it caches. Started as the Python
// clients are (common.py), with the folder of the modules in POLYACTORS_BENCH_NODE_MODULES.
const fs = require('fs');
const http = require('http');
const path = require('path');

const EPOCH_MS = 1_790_000_000_000;
const WARM_SHARE = 0.2;
const modules = process.env.POLYACTORS_BENCH_NODE_MODULES;
const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const wanted = task.tokens.length;

// The endpoint is a constant of the module: what it connects with is told another one.
process.env.LOG_LEVEL = 'silent';
const wsPath = require.resolve(path.join(modules, 'ws'));
const WebSocket = require(wsPath);
const origin = `${task.certificate ? 'wss' : 'ws'}://127.0.0.1:${task.port}`;
class LocalSocket extends WebSocket {
  constructor(url, ...rest) {
    super(url.replace(/^wss:\/\/[^/]+/, origin), ...rest);
  }
}
LocalSocket.default = LocalSocket;
require.cache[wsPath].exports = LocalSocket;
const { WSSubscriptionManager } = require(path.join(modules, '@nevuamarkets/poly-websockets'));

const now = () => Number(process.hrtime.bigint());
const rss = () => Number(fs.readFileSync('/proc/self/statm', 'utf8').split(' ')[1]) * 4096;
const control = (command) => new Promise((resolve) => {
  http.get({ host: '127.0.0.1', port: task.port, path: command }, (answer) => {
    let text = '';
    answer.on('data', (part) => { text += part; });
    answer.on('end', () => resolve(JSON.parse(text)));
  });
});

const result = { again_ns: [], reset_ns: [] };
const latencies = [];
let books = 0;
let messages = 0;
let cpu;

async function allLive() {
  if (result.all_ns === undefined) {
    result.all_ns = now();
    result.rss_bytes = rss();
  } else {
    result.again_ns.push(now());
  }
  if (result.again_ns.length < task.resets) {
    setTimeout(async () => {
      books = 0;
      result.reset_ns.push((await control('/reset')).reset_ns);
    }, (task.pause_seconds + result.again_ns.length) * 1000);
  } else if (task.messages) {
    Object.assign(result, await control('/go'));
    cpu = process.cpuUsage();
  } else {
    setTimeout(finish, 100); // the answer of the last reset must have come
  }
}

const ticks = (level) => Math.round(parseFloat(level.price) * 1000);

function finish() {
  result.tops = {};
  for (const token of task.tokens) {
    const book = manager.bookCache.getBookEntry(token);
    result.tops[token] = [ticks(book.bids.at(-1)), ticks(book.asks.at(-1))];
  }
  if (latencies.length) result.latencies_us = latencies.map((us) => Math.round(us * 10) / 10);
  result.messages = messages;
  result.peak_bytes = Number(fs.readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s*(\d+)/)[1]) * 1024;
  result.node = process.version.slice(1);
  process.stdout.write(JSON.stringify(result) + '\n', () => process.exit(0));
}

result.connect_ns = now();
const manager = new WSSubscriptionManager({
  onBook: async (events) => {
    books += events.length;
    if (books === wanted) allLive();
  },
  onPriceChange: async () => {},
  onPolymarketPriceUpdate: async () => {},
  onError: async (error) => { process.stderr.write(`${error}\n`); },
});
// Its subscribers are told before its books are changed: what counts is after that.
const upsert = manager.bookCache.upsertPriceChange.bind(manager.bookCache);
manager.bookCache.upsertPriceChange = (event) => {
  upsert(event);
  messages += 1;
  if (task.is_paced) {
    latencies.push((now() - result.start_ns) / 1000 - (Number(event.timestamp) - EPOCH_MS));
  } else if (messages === Math.floor(task.messages * WARM_SHARE)) {
    // It is compiled by now. What came before does not count.
    Object.assign(result, { warm_ns: now(), warm_messages: messages });
  }
  if (messages === task.messages) {
    result.end_ns = now();
    const used = process.cpuUsage(cpu);
    result.cpu_seconds = (used.user + used.system) / 1e6;
    setImmediate(finish);
  }
};
manager.addSubscriptions(task.tokens);
