/** What a page of the documentation site makes a browser load from other hosts. */
import { extname } from 'node:path';

const otherHost = String.raw`(?:https?:|wss?:)?\/\/`;
/** Scripts contain HTML in strings, so quotes may be escaped. */
const quote = String.raw`\\?["'\x60]`;

/** What a browser loads by itself; links that a reader follows may lead anywhere. */
const inHtml = [
  new RegExp(
    String.raw`<(?:script|img|iframe|source|video|audio|embed|track|input)\b[^>]*?\ssrc=${quote}?${otherHost}[^"'\s>]*`,
    'gi',
  ),
  // One of several addresses of a set.
  new RegExp(
    String.raw`\s(?:image)?srcset=(?:"[^"]*?|'[^']*?)(?<=["',\s])${otherHost}[^"'\s>]*`,
    'gi',
  ),
  new RegExp(String.raw`<(?:link|use|image)\b[^>]*?\shref=${quote}?${otherHost}[^"'\s>]*`, 'gi'),
  new RegExp(String.raw`<object\b[^>]*?\sdata=${quote}?${otherHost}[^"'\s>]*`, 'gi'),
  new RegExp(String.raw`<video\b[^>]*?\sposter=${quote}?${otherHost}[^"'\s>]*`, 'gi'),
];
const inCss = [
  new RegExp(String.raw`@import\s+(?:url\()?["']?${otherHost}[^"')]*`, 'gi'),
  new RegExp(String.raw`url\(\s*["']?${otherHost}[^"')]*`, 'gi'),
];
const inScript = [
  new RegExp(
    String.raw`\b(?:import|fetch|importScripts|sendBeacon)\s*\(\s*${quote}${otherHost}[^"'\x60]*`,
    'g',
  ),
  new RegExp(String.raw`\b(?:import|from)\s*${quote}${otherHost}[^"'\x60]*`, 'g'),
  new RegExp(
    String.raw`\bnew\s+(?:Worker|SharedWorker|EventSource|WebSocket|Request)\s*\(\s*${quote}${otherHost}[^"'\x60]*`,
    'g',
  ),
  new RegExp(
    String.raw`\.open\s*\(\s*${quote}[A-Z]+${quote}\s*,\s*${quote}${otherHost}[^"'\x60]*`,
    'g',
  ),
  // Properties of elements that a script makes.
  new RegExp(
    String.raw`(?:\.src(?:set)?\s*=|\bsrc(?:set)?["']?\s*:)\s*${quote}${otherHost}[^"'\x60]*`,
    'gi',
  ),
];

const patternsOf: Readonly<Record<string, readonly RegExp[]>> = {
  '.html': [...inHtml, ...inCss, ...inScript],
  '.svg': [...inHtml, ...inCss],
  '.css': inCss,
  '.js': [...inHtml, ...inCss, ...inScript],
  '.mjs': [...inHtml, ...inCss, ...inScript],
};

/** Returns the parts of a file that load something from another host. `read` returns its text; other files than text are not read. */
export function loadsFromOtherHosts(file: string, read: () => string): readonly string[] {
  const patterns = patternsOf[extname(file)];
  if (patterns === undefined) return [];
  const text = read();
  return patterns.flatMap((pattern) => [...text.matchAll(pattern)].map(([found]) => found));
}
