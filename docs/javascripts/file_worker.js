// Browsers start no worker for a page that was opened from the disk, and the theme's search runs in one.
// There, run the worker's script in a frame that is not shown.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      this.messages = new Promise(resolve => {
        frame.addEventListener("load", () => resolve(frame.contentWindow))
      })
      // in a worker, postMessage goes to the page
      frame.srcdoc = `<script>
        window.postMessage = data => window.frameElement.worker.dispatchEvent(new MessageEvent("message", { data }))
      </script><script src="${url}"></script>`
      frame.worker = this
      document.body.append(frame)
    }

    async postMessage(data) {
      const target = await this.messages
      target.dispatchEvent(new target.MessageEvent("message", { data }))
    }
  }
}
