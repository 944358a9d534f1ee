// Mermaid 11.17.2, https://github.com/mermaid-js/mermaid: the npm package @mermaid-js/tiny, MIT
// (mermaid.LICENSE). It is no module: it sets a global name, which this file exports as one.
const script = document.createElement("script");
script.src = new URL("mermaid.tiny.js", import.meta.url);
await new Promise((resolve, reject) => {
    script.onload = resolve;
    script.onerror = () => reject(new Error(`cannot load ${script.src}`));
    document.head.append(script);
});
export default globalThis.mermaid;
