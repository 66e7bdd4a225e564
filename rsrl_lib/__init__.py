"""Repetitive self-revised learning for photo aesthetics: one module, one idea of the papers."""
