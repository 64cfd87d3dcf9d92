'use strict';
// Language and colour scheme: what the reader chose last, else what the page and the system say.
const root = document.documentElement;
const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a file may have no storage */ } };

const asked = new URLSearchParams(location.search);
const lang = asked.get('lang') ?? remembered('compare-lang');
if (lang === 'vi' || lang === 'en') root.lang = lang;
const theme = asked.get('theme') ?? remembered('compare-theme');
if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;

addEventListener('DOMContentLoaded', () => {
  document.getElementById('lang').addEventListener('click', () => {
    root.lang = root.lang === 'vi' ? 'en' : 'vi';
    remember('compare-lang', root.lang);
  });
  document.getElementById('theme').addEventListener('click', () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    remember('compare-theme', root.dataset.theme);
  });
});
