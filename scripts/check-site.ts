/**
 * Checks the built documentation site: it has every page, and a browser that shows it asks no other host for anything. Exits with 1
 * and names the files otherwise.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const docs = join(import.meta.dirname, '..', '..', 'docs');
const site = join(docs, '.vitepress', 'dist');

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** What a browser loads by itself; links that a reader follows may lead anywhere. */
const loaded = [
  /<(?:script|img|iframe|source|video|audio)\b[^>]*\ssrc="(?:https?:)?\/\/[^"]*"/g,
  /<link\b[^>]*\shref="(?:https?:)?\/\/[^"]*"/g,
  /@import\s+(?:url\()?["']?(?:https?:)?\/\/[^"')]*/g,
  /url\(["']?(?:https?:)?\/\/[^"')]*/g,
];

const built = filesBelow(site);
const problems: string[] = [];
for (const page of readdirSync(docs).filter((name) => name.endsWith('.md'))) {
  const html = join(site, page.replace(/\.md$/, '.html'));
  if (!existsSync(html)) problems.push(`docs/${page} is not in the site`);
}
for (const file of built.filter((path) => /\.(?:html|css)$/.test(path))) {
  const text = readFileSync(file, 'utf8');
  for (const [found] of loaded.flatMap((pattern) => [...text.matchAll(pattern)])) {
    problems.push(`${relative(site, file)} loads from another host: ${found}`);
  }
}
for (const problem of problems) console.error(problem);
console.log(`the site has ${built.length} files in ${relative(process.cwd(), site)}`);
process.exitCode = problems.length === 0 ? 0 : 1;
