"""The neighbours as nodes: ESD, UCE, STEREO, ConceptPrune, Few-shot Unlearning."""
