"""One device, without Ray: waveforms in, words out."""
