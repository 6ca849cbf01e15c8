/**
 * Checks the built documentation site: it has every page, and a browser that shows it asks no other host for anything. Exits with 1
 * and names the files otherwise.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { loadsFromOtherHosts } from './site-loads.ts';

const docs = join(import.meta.dirname, '..', '..', 'docs');
const site = join(docs, '.vitepress', 'dist');

function filesBelow(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** The theme loads the icon of a link from this host if the style sheets lack it. */
const iconOfTheme = "url('https://api.iconify.design/simple-icons/$";

/** Icons in pages without an image in a style sheet. */
function iconsWithoutImage(): readonly string[] {
  const textOf = (extension: string): string =>
    built
      .filter((path) => path.endsWith(extension))
      .map((path) => readFileSync(path, 'utf8'))
      .join('\n');
  const styles = textOf('.css');
  const icons = [...textOf('.html').matchAll(/\bvpi-social-[\w-]+/g)].map(([icon]) => icon);
  return [...new Set(icons)].filter((icon) => !styles.includes(`.${icon}{--icon:url("data:`));
}

const built = filesBelow(site);
const problems: string[] = [];
for (const page of readdirSync(docs).filter((name) => name.endsWith('.md'))) {
  const html = join(site, page.replace(/\.md$/, '.html'));
  if (!existsSync(html)) problems.push(`docs/${page} is not in the site`);
}
for (const file of built) {
  const loads = loadsFromOtherHosts(file, () => readFileSync(file, 'utf8'));
  for (const found of loads.filter((load) => !load.startsWith(iconOfTheme))) {
    problems.push(`${relative(site, file)} loads from another host: ${found}`);
  }
}
for (const icon of iconsWithoutImage()) problems.push(`the site has no image of icon ${icon}`);
for (const problem of problems) console.error(problem);
console.log(`the site has ${built.length} files in ${relative(process.cwd(), site)}`);
process.exitCode = problems.length === 0 ? 0 : 1;
