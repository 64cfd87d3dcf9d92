// The performance table of the main README, made by one script: runs each row's command and prints its row as Markdown,
// each figure with its spread, under the date and the machine.
//
//   node compare/performance.mjs            all rows, about half an hour; nothing else may run meanwhile
//   node compare/performance.mjs room idle  the rows whose names begin so
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROWS = [
  { name: 'room', what: 'room of 5,000, everyone speaks once a second', metrics: ['p99_ms', 'arrival_p99_ms', 'deliveries_per_s', 'gbit_per_s', 'user_percent'],
    command: '--server evloop,thread,bun --scenario room --clients 5000 --warm-up 3s --window 4s' },
  { name: 'largest', what: 'largest room with p99 at most 100 ms', metrics: ['largest_room', 'deliveries_per_s', 'gbit_per_s', 'p99_ms'],
    command: '--server evloop,thread,bun,tokio,node,python --scenario room --repeats 3' },
  { name: 'small', what: 'one message to a room of 100', metrics: ['p50_ms', 'p99_ms'],
    command: '--server evloop,bare --scenario fanout --clients 100 --rate 20 --window 8s --repeats 4' },
  { name: 'idle', what: '10,000 idle clients, pings on', metrics: ['resident_kib_per_client', 'kernel_kib_per_client', 'threads', 'cpu_percent'],
    command: '--server evloop,thread --scenario idle --clients 10000 --window 20s' },
  { name: 'sparse', what: '15,000 clients, a message a minute each', metrics: ['clients_per_core', 'p99_ms', 'cpu_percent'],
    command: '--server evloop,thread --scenario sparse --window 10s' },
  { name: 'echo', what: 'echo, 100 clients, closed loop', metrics: ['deliveries_per_s', 'p99_ms', 'cpu_us_per_delivery'],
    command: '--server evloop,bun --scenario echo --window 3s --repeats 6' },
  { name: 'connect', what: 'handshakes; 2,000 clients come back at once', metrics: ['handshakes_per_s', 'cpu_us_per_visit', 'cpu_us_per_join', 'storm_s'],
    command: '--server evloop,thread,bun --scenario connect --repeats 4' },
  { name: 'dashboard', what: 'a tick to 10,000 dashboards, the last one', metrics: ['max_ms', 'p99_ms', 'cpu_percent'],
    command: '--server evloop,thread --scenario dashboard --clients 10000 --window 6s' },
  { name: 'slow', what: '200 of 2,000 never read: the others', metrics: ['p99_ms', 'resident_mib'],
    command: '--server evloop,thread --scenario slow --clients 2000 --rate 1800 --text-bytes 16 --repeats 3' },
];

const number = (value) => {
  const size = Math.abs(value);
  if (size >= 1e6) return `${number(value / 1e6)} M`;
  if (size >= 1e3) return Math.round(value).toLocaleString('en');
  return size === 0 ? '0' : `${Number(value.toPrecision(3))}`;
};
const spread = ({ median, low, high, unit }) => {
  const range = number(low) === number(high) ? '' : ` [${number(low)}–${number(high)}]`;
  return `${number(median)}${unit && ` ${unit}`}${range}`;
};

function measure(row) {
  const out = mkdtempSync(join(tmpdir(), 'performance-'));
  const words = ['run', '--release', '--quiet', '-p', 'compare', '--', ...row.command.split(' '), '--lang', 'en', '--out', out];
  try {
    execFileSync('cargo', words, { stdio: ['ignore', 'ignore', 'inherit'] });
  } catch {
    // A condition that fails, or a server that is not installed: what was measured is in the file all the same.
  }
  return JSON.parse(readFileSync(join(out, 'results.json'), 'utf8'));
}

/** A server's figures in each case, as one cell. */
function cell(results, server, metrics) {
  const lines = results.summaries.filter((line) => line.server === server && metrics.includes(line.metric));
  const cases = [...new Set(lines.map((line) => line.case))];
  return cases.map((name) => {
    const figures = lines.filter((line) => line.case === name)
      .sort((a, b) => metrics.indexOf(a.metric) - metrics.indexOf(b.metric))
      .map((line) => `${line.metric.replace(/_(ms|s|percent|kib|mib|us)(_per_\w+)?$|_per_s$/, '$2').replaceAll('_', ' ')} ${spread(line)}`);
    const doubtful = results.warnings.some((it) => it.at?.server === server && it.at?.case === name);
    return `${cases.length > 1 ? `${name}: ` : ''}${figures.join(', ')}${doubtful ? ' (!)' : ''}`;
  }).join('; ');
}

const asked = process.argv.slice(2);
const rows = ROWS.filter(({ name }) => asked.length === 0 || asked.some((word) => name.startsWith(word)));
let isHeaded = false;
for (const row of rows) {
  const results = measure(row);
  if (!isHeaded) {
    const { date, cpu, cores, kernel, commit, pinned } = results.environment;
    const where = pinned ? `server on core ${pinned.server}, generator on core ${pinned.generator}` : 'not pinned';
    console.log(`Measured on ${date.slice(0, 10)}, ${cpu}, ${cores} cores, Linux ${kernel}, ${where}, commit ${commit}. Medians with [least–greatest]; (!) has a warning.\n`);
    console.log('| what | event loop | others | command behind `--` |\n|---|---|---|---|');
    isHeaded = true;
  }
  const [first, ...others] = results.servers.map(({ name }) => name);
  const rest = others.map((name) => `${name}: ${cell(results, name, row.metrics)}`).join('<br>');
  console.log(`| ${row.what} | ${cell(results, first, row.metrics)} | ${rest} | \`${row.command}\` |`);
}
