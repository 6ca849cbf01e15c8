/** The description of the chart that its users see in a catalogue. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import * as v from 'valibot';
import { parse } from 'yaml';
import { chart, containersOf, render } from './helm.ts';
import { everything } from './samples.ts';

const chartFile = v.object({
  version: v.string(),
  appVersion: v.string(),
  home: v.pipe(v.string(), v.url()),
  icon: v.pipe(v.string(), v.url()),
  sources: v.array(v.pipe(v.string(), v.url())),
  maintainers: v.array(v.object({ name: v.string(), url: v.pipe(v.string(), v.url()) })),
  annotations: v.record(v.string(), v.string()),
});

const description = v.parse(chartFile, parse(await readFile(join(chart, 'Chart.yaml'), 'utf8')));

/** The list in an annotation. */
function annotation<const T extends v.GenericSchema>(
  name: string,
  item: T,
): readonly v.InferOutput<T>[] {
  return v.parse(v.array(item), parse(description.annotations[`artifacthub.io/${name}`] ?? ''));
}

test('the listed images are those of the rendered pods', async (t) => {
  const images = annotation('images', v.strictObject({ name: v.string(), image: v.string() }));
  const rendered = containersOf(await render(everything({})));
  t.deepEqual(
    images.map(({ image }) => image).sort(),
    [...new Set(rendered.map(({ image }) => image))].sort(),
  );
  t.is(new Set(images.map(({ name }) => name)).size, images.length);
});

test('the listed changes are those of the changelog for this version', async (t) => {
  const change = v.strictObject({
    kind: v.picklist(['added', 'changed', 'deprecated', 'removed', 'fixed', 'security']),
    description: v.string(),
  });
  const changelog = await readFile(join(chart, 'CHANGELOG.md'), 'utf8');
  const section = new RegExp(`^## ${description.version}\\n([^]*?)(?=^## |$(?![^]))`, 'm');
  const [, text = ''] = section.exec(changelog) ?? [];
  let kind = '';
  const written = text.split(/\n(?=- |[A-Z])/).flatMap((part) => {
    const flat = part.replaceAll(/\s+/g, ' ').trim();
    if (flat.startsWith('- ')) return [{ kind, description: flat.slice(2) }];
    kind = flat.toLowerCase();
    return [];
  });
  t.true(written.length > 10);
  t.deepEqual(annotation('changes', change), written as never);
});

test('the icon is a drawing of the repository', async (t) => {
  const prefix = 'https://raw.githubusercontent.com/loopcsi/loopcsi/main/';
  t.true(description.icon.startsWith(prefix));
  const file = join(chart, '../..', description.icon.slice(prefix.length));
  t.regex(await readFile(file, 'utf8'), /^<svg [^]*<\/svg>\n$/);
});

test('the listed CRDs are those of the chart', async (t) => {
  const crds = annotation(
    'crds',
    v.strictObject({
      kind: v.string(),
      version: v.string(),
      name: v.string(),
      displayName: v.string(),
      description: v.string(),
    }),
  );
  const directory = join(chart, 'charts/snapshot-controller/crds');
  const ours = await Promise.all(
    (await readdir(directory)).map(async (file) => {
      const crd: unknown = parse(await readFile(join(directory, file), 'utf8'));
      const names = v.object({
        metadata: v.object({ name: v.string() }),
        spec: v.object({ names: v.object({ kind: v.string() }) }),
      });
      const { metadata, spec } = v.parse(names, crd);
      return `${metadata.name} ${spec.names.kind}`;
    }),
  );
  t.deepEqual(crds.map(({ name, kind }) => `${name} ${kind}`).sort(), ours.sort());
});

test('links, home and sources are URLs of the project; the links lead to files of this repository', async (t) => {
  const url = v.pipe(v.string(), v.startsWith(`${description.home}/blob/main/`));
  const links = annotation('links', v.strictObject({ name: v.string(), url }));
  t.true(links.length >= 3);
  for (const link of links) {
    const path = link.url.slice(`${description.home}/blob/main/`.length);
    await t.notThrowsAsync(readFile(join(chart, '..', '..', path)), path);
  }
  t.deepEqual(description.sources, [description.home]);
  t.is(description.maintainers.length, 1);
});
