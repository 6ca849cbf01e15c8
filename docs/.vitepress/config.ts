/**
 * The documentation as a site: `npm run docs` builds it in docs/.vitepress/dist. The pages are the files of docs/, which also read well
 * in the repository, so links to files outside docs/ become links to the repository. The site loads nothing from other hosts.
 */
import { existsSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { defineConfig } from 'vitepress';

const docs = join(import.meta.dirname, '..');
const repository = 'https://github.com/loopcsi/loopcsi';

/** Returns the address in the repository of a file outside docs/, or undefined if the site has the file as a page. */
function sourceAddress(page: string, href: string): string | undefined {
  if (/^(?:[a-z]+:|#|\/)/.test(href)) return undefined;
  const [path = '', anchor] = href.split('#');
  const file = join(docs, dirname(page), path);
  const isPage = !relative(docs, file).startsWith('..') && file.endsWith('.md');
  if (isPage || !existsSync(file)) return undefined;
  return `${repository}/blob/main/${relative(join(docs, '..'), file)}${anchor === undefined ? '' : `#${anchor}`}`;
}

function pages(titles: Readonly<Record<string, string>>): { text: string; link: string }[] {
  return Object.entries(titles).map(([page, text]) => ({ text, link: `/${page}` }));
}

export default defineConfig({
  title: 'loopcsi',
  description: 'Volumes with enforced sizes from any directory of a Linux machine',
  lang: 'en',
  cleanUrls: true,
  srcExclude: ['node_modules/**'],
  markdown: {
    config: (renderer) => {
      renderer.core.ruler.push('links-to-the-repository', ({ tokens, env }) => {
        const page = String((env as { relativePath?: string }).relativePath ?? '');
        for (const token of tokens.flatMap(({ children }) => children ?? [])) {
          const href = token.type === 'link_open' ? token.attrGet('href') : undefined;
          const address = href ? sourceAddress(page, href) : undefined;
          if (address !== undefined) token.attrSet('href', address);
        }
      });
    },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    socialLinks: [{ icon: 'github', link: repository }],
    sidebar: [
      {
        text: 'Start',
        items: pages({
          platforms: 'Platforms',
          kubernetes: 'Kubernetes',
          'install-package': 'Package',
          'several-machines': 'Several machines',
          docker: 'Docker',
          'command-line': 'Command line',
          comparison: 'Comparison',
          faq: 'Questions',
        }),
      },
      {
        text: 'Run it',
        items: pages({
          'data-safety': 'What happens to my data when …',
          tasks: 'Tasks',
          backup: 'Backup tools',
          'import-export': 'Import and export',
          operations: 'Operations',
          monitoring: 'Monitoring',
          runbooks: 'Runbooks',
          errors: 'Errors',
          snapshots: 'Snapshots',
          parameters: 'Parameters',
          configuration: 'Configuration',
          controller: 'Controller for several nodes',
          'limits-io': 'I/O limits',
          security: 'Security',
        }),
      },
      {
        text: 'Understand it',
        items: pages({
          design: 'Design',
          glossary: 'Glossary',
          'crash-safety': 'Crash safety',
          'tested-on': 'Tested on',
          releasing: 'Releasing',
          benchmarks: 'Benchmarks',
          'csi-sanity': 'csi-sanity',
          conformance: 'Kubernetes storage suite',
        }),
      },
    ],
  },
});
