import test from 'ava';
import { loadsFromOtherHosts } from '../../../scripts/site-loads.ts';

for (const { file, text } of [
  { file: 'a.html', text: '<script async src="https://cdn.example/a.js"></script>' },
  { file: 'a.html', text: "<img alt='' src='//cdn.example/a.png'>" },
  { file: 'a.html', text: '<img src="/a.png" srcset="/a.png 1x, https://cdn.example/b.png 2x">' },
  { file: 'a.html', text: "<link rel='stylesheet' href='https://cdn.example/a.css'>" },
  { file: 'a.html', text: '<style>p { background: url(//cdn.example/a.png) }</style>' },
  { file: 'a.html', text: '<script>fetch("https://api.example/hits")</script>' },
  { file: 'a.css', text: '@import "https://fonts.example/a.css";' },
  { file: 'a.css', text: "@font-face { src: url('https://fonts.example/a.woff2') }" },
  { file: 'a.js', text: 'import{a}from"https://cdn.example/a.js";' },
  { file: 'a.js', text: 'const a=await import("//cdn.example/a.js")' },
  { file: 'a.js', text: 'navigator.sendBeacon(`https://api.example/hits`)' },
  { file: 'a.js', text: 'e.open("GET","https://api.example/a.json")' },
  { file: 'a.js', text: 'h("img",{src:"https://cdn.example/a.png"})' },
  { file: 'a.js', text: String.raw`m('<img src=\'https://cdn.example/a.png\'>')` },
]) {
  test(`loaded from another host: ${file}: ${text}`, (t) => {
    t.is(loadsFromOtherHosts(file, () => text).length, 1);
  });
}

for (const { file, text } of [
  { file: 'a.html', text: '<a href="https://example.org/">a link</a> <img src="/a.png">' },
  { file: 'a.html', text: '<img srcset="/a.png 1x, /b.png 2x"> <a href="https://example.org/">' },
  { file: 'a.html', text: '<script type="module" src="/a.js"></script>' },
  { file: 'a.js', text: 'h("a",{href:"https://example.org/"}); import("./b.js")' },
  { file: 'a.js', text: 'createElementNS("http://www.w3.org/2000/svg")' },
  { file: 'a.woff2', text: 'url(https://fonts.example/)' },
]) {
  test(`not loaded from another host: ${file}: ${text}`, (t) => {
    t.deepEqual(
      loadsFromOtherHosts(file, () => text),
      [],
    );
  });
}
