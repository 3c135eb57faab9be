"""The bundled model: a FluxPipeline of a few million parameters that draws wallpaper patterns."""
